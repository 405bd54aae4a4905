"""`lightrnn plot`: the attention of an encoder-decoder as a heat map."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightrnn.cli.arguments import UsageError, command, positive
from lightrnn.cli.output import check_not_replaced, open_output
from lightrnn.errors import InputError, TextError, UnsupportedError

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers
    from lightrnn.text.tasks import Result

_log = logging.getLogger("lightrnn")

_PLACEHOLDERS = "Last Resort"
"""A font of boxes for every character."""
_CELL = 0.3
"""Inches of a heat map's row or column."""


def add(subparsers: Subparsers) -> None:
    parser = command(subparsers, "plot", "draw the attention of an encoder-decoder", run)
    parser.add_argument("model", metavar="MODEL", help="a .lrnn file of the task translation")
    parser.add_argument("text", metavar="TEXT", help="what is given to the model")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True,
        help="the picture: .svg, .png, .pdf or another suffix that matplotlib knows",
    )  # fmt: skip
    parser.add_argument("--beam", type=positive, metavar="N", help="hypotheses kept")
    parser.add_argument("--max-length", type=positive, metavar="N", help="tokens at most")


def run(args: argparse.Namespace) -> int:
    check_not_replaced(args.model, args.output)
    form = _form(args.output)
    result = _translated(args)
    figure = heat_map(result["attention"], _shown(result["source"]), _shown(result["target"]))
    with open_output(args.output) as output:
        save(figure, output, form)
    return 0


def heat_map(
    weights: Sequence[Sequence[float]], source: Sequence[str], target: Sequence[str]
) -> Any:
    """A figure of attention weights [target][source], from 0 (white) to 1 (black)."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    size = 1.2 + _CELL * len(source), 1.0 + _CELL * len(target)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="none")
    fonts = fonts_for("".join([*source, *target]))
    plain: dict[str, Any] = {"parse_math": False, "fontproperties": FontProperties(family=fonts)}
    turned = 90 if max(map(len, source)) > 2 else 0
    axes.set_xticks(range(len(source)), source, rotation=turned, **plain)
    axes.set_yticks(range(len(target)), target, **plain)
    axes.xaxis.tick_top()
    return figure


def save(figure: Any, output: Any, form: str) -> None:
    """Write a figure; the same one gives the same bytes. Text of an .svg stays text."""
    import matplotlib

    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "ps": {"CreationDate": None}}
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context({"svg.hashsalt": "lightrnn", "svg.fonttype": "none"}),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # `fonts_for` has said so
        figure.savefig(output, format=form, metadata=dates.get(form))


def fonts_for(text: str) -> list[str]:
    """The default font, and installed ones that have what it lacks; warns of what none has."""
    from matplotlib import font_manager

    default = font_manager.FontProperties()
    lacking = {ord(c) for c in text} - _characters(font_manager.findfont(default))
    fonts = list(default.get_family())
    for entry in font_manager.fontManager.ttflist if lacking else ():
        if entry.name.startswith(_PLACEHOLDERS):
            continue
        if found := lacking & _characters(entry.fname):
            fonts.append(entry.name)
            lacking -= found
        if not lacking:
            break
    if lacking:
        _log.warning("no installed font has %s: install one, such as Noto Sans CJK for Chinese",
                     " ".join(map(chr, sorted(lacking))))  # fmt: skip
    return fonts


def _characters(font: str) -> set[int]:
    """What a font file can draw; nothing for one that matplotlib does not read."""
    from matplotlib.ft2font import FT2Font

    try:
        return set(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):
        return set()


def _form(path: str) -> str:
    """The picture's format by its suffix. Raises UsageError for one that is not known."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise UnsupportedError(f"matplotlib: {error}; pip install 'lightrnn[plot]'") from error
    form, known = Path(path).suffix[1:].lower(), FigureCanvasBase.get_supported_filetypes()
    if form not in known:
        raise UsageError(f"-o {path}: the suffix is none of {', '.join(sorted(known))}")
    return form


def _translated(args: argparse.Namespace) -> Result:
    from lightrnn.model import load
    from lightrnn.text.pipeline import Pipeline
    from lightrnn.text.tasks import find_task

    model = load(args.model)
    task = find_task(model).name
    if task != "translation":
        raise TextError(f"plot is for models of translation, {args.model} is one of {task}")
    chosen = {"beam": args.beam, "max_length": args.max_length}
    pipe = Pipeline(model, 1, attention=True, **{k: v for k, v in chosen.items() if v})
    (result,) = pipe([args.text])
    if not result.get("attention"):
        raise InputError("nothing to draw: the text or the result has no tokens")
    return result


def _shown(pieces: Sequence[str]) -> list[str]:
    """Pieces as labels: spaces to be seen, control characters escaped."""
    return [
        "".join("␣" if c == " " else c if c.isprintable() else ascii(c)[1:-1] for c in piece)
        for piece in pieces
    ]
