"""`lightrnn convert`: a trained model to a .lrnn file."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightrnn.cli.arguments import (
    UsageError,
    by_name,
    command,
    dtype_pair,
    name_pair,
    size_pair,
    value_pair,
)
from lightrnn.cli.output import check_not_replaced, open_output
from lightrnn.errors import ConversionError

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers

KINDS = ("onnx", "pt2")

_EXPORT = "export it in Python with lightrnn_converters.convert_torch"
_TORCHSCRIPT = f"TorchScript: {_EXPORT}, from the module itself"
_ADVICE = {
    ".pt": f"a torch checkpoint: {_EXPORT}",
    ".pth": f"a torch checkpoint: {_EXPORT}",
    ".ts": _TORCHSCRIPT,
    ".torchscript": _TORCHSCRIPT,
}

_OPTIONS = {"dtype": "dtype", "bind": "bind", "dim": "dims", "state": "states", "trust": "trust"}
"""Options of the command, and the parameters of front-ends that they are passed as."""


def add(subparsers: Subparsers) -> None:
    parser = command(subparsers, "convert", "convert a trained model to a .lrnn file", run)
    parser.add_argument("source", metavar="SRC", help="an .onnx or .pt2 file")
    parser.add_argument("-o", "--output", metavar="DST", required=True, help="the .lrnn file")
    stored = "how weights are stored: float32, float16, bfloat16, int16, int16+int8, int8"
    for name, kind, form, text in (
        ("--dtype", dtype_pair, "[PATTERN=]DTYPE", f"{stored}; of those whose names match"),
        ("--bind", value_pair, "NAME=VALUE", "fix the value of an input"),
        ("--dim", size_pair, "NAME=N", "fix a dimension; INPUT_AXIS if it has no name"),
        ("--state", name_pair, "IN=OUT", "feed an output to an input at the next step"),
    ):
        parser.add_argument(name, type=kind, metavar=form, action="append", help=text)
    parser.add_argument(
        "--trust", action="store_true", default=None, help="let torch unpickle a .pt2 file"
    )


def run(args: argparse.Namespace) -> int:
    from lightrnn.cli import frontends

    kind = _kind(args.source)
    open(args.source, "rb").close()
    check_not_replaced(args.source, args.output)
    convert = frontends.find(frontends.CONVERTERS, kind)
    options = _options(args, convert, kind)
    with open_output(args.output) as output:
        convert(args.source, output, **options)
        size = output.tell() if output.seekable() else None
    if sys.stderr.isatty() and size is not None:
        print(f"{args.output}: {size:,} bytes", file=sys.stderr)
    return 0


def _kind(source: str) -> str:
    suffix = Path(source).suffix.lower()
    if suffix in _ADVICE:
        raise ConversionError(f"{source} is {_ADVICE[suffix]}")
    if suffix[1:] not in KINDS:
        raise ConversionError(
            f"{source}: cannot convert {suffix or 'a file without a suffix'}, "
            f"expected {' or '.join(f'.{k}' for k in KINDS)}"
        )
    return suffix[1:]


def _options(args: argparse.Namespace, convert: Callable[..., Any], kind: str) -> dict[str, Any]:
    """What was given, under the front-end's names. Raises UsageError for what it does not take."""
    taken = inspect.signature(convert).parameters
    options: dict[str, Any] = {}
    for name, parameter in _OPTIONS.items():
        value = getattr(args, name)
        if value is None:
            continue
        if parameter not in taken:
            raise UsageError(f"--{name} is not an option for .{kind} files")
        options[parameter] = by_name(value, name) if isinstance(value, list) else value
    if len(stored := options.get("dtype", {})) > 1 and "*" in stored:
        stored["*"] = stored.pop("*")  # what no other pattern takes
    return options
