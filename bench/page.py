"""The page of all parts that were measured: results.md, with its plots beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import plots, precision, tables, targets
from bench.machine import PACKAGES
from bench.results import Part, read_all

SECTIONS: dict[str, tuple[str, Callable[[Part], str]]] = {
    "layers": ("Layers in float32", tables.all_layers),
    "steps": ("One step", tables.steps),
    "attention": ("Attention", tables.attention),
    "models": ("Whole models", tables.models),
    "precision": ("Fewer bits", lambda p: precision.tables(p.results)),
    "metric": ("What fewer bits cost a task", tables.metric),
    "start": ("Fresh processes", tables.start),
}
PLOTS = {
    "speed.svg": "Speed of float32 layers on one thread, of the best other engine's",
    "latency.svg": "Latency of one LSTM step",
    "precision.svg": "Time beside error",
}


def write(folder: Path) -> Path:
    """Render what the folder's JSON files hold. Without matplotlib there are no new plots."""
    parts = read_all(folder)
    try:
        plots.draw(parts, folder)
    except ImportError:
        print("matplotlib is not installed: no plots")
    drawn = [name for name in PLOTS if (folder / name).exists()]
    page = folder / "results.md"
    page.write_text(render(parts, drawn))
    return page


def render(parts: Mapping[str, Part], drawn: list[str]) -> str:
    """The page as Markdown. drawn: the plots to show."""
    return "\n".join(line for block in _blocks(parts, drawn) for line in (block, ""))


def _blocks(parts: Mapping[str, Part], drawn: list[str]) -> Iterator[str]:
    yield "# Measured"
    yield ("Written by `python -m bench`; how to run and read it is in `docs/benchmarks.md`. "
           "Ratios above 1 mean that lightrnn is quicker; times are medians.")  # fmt: skip
    for part in list(parts.values())[:1]:
        yield machine(part.machine)
    if quick := [name for name, part in parts.items() if part.quick]:
        yield f"From a quick run, few cells measured briefly: {', '.join(quick)}."
    yield "## Asked and measured"
    yield tables.summary(targets.rows(parts))
    yield from (f"![{PLOTS[name]}]({name})" for name in drawn)
    for name, part in parts.items():
        title, make = SECTIONS[name]
        yield f"## {title}"
        yield make(part)
    yield "## What engines refused"
    yield tables.refused(parts)


def machine(found: Mapping[str, Any]) -> str:
    """The machine, its limits and the versions."""
    caches = ", ".join(f"{level} {size // 1024} KiB" for level, size in found["caches"].items())
    versions = ", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)
    limits = ", ".join(f"{name} {value:.0f}" for name, value in found["limits"].items())
    return "\n".join([
        f"- {found['cpu']}, {found['cores']} cores ({', '.join(found['extensions'])})",
        f"- caches of a core: {caches}",
        f"- measured limits of a core: {limits}",
        f"- {found['system']}, Python {found['python']}, {versions}",
    ])  # fmt: skip
