"""Lines of the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.cells import Cell, Layer
from bench.results import geometric_mean

WAYS = {"run": "x in, y out", "states": "states through run", "stream": "states in a stream"}


@dataclass(frozen=True)
class Row:
    """A line of the summary. met: None where nothing is asked, or not of this machine."""

    group: str
    asked: str
    measured: str
    cells: int
    met: bool | None


def at_least(group: str, asked: float | None, ratios: Sequence[float]) -> Iterator[Row]:
    """A geometric mean, which should reach `asked`; nothing where no cell was measured."""
    if ratios:
        mean = geometric_mean(ratios)
        measured = f"{mean:.2f}× ({min(ratios):.2f} to {max(ratios):.2f})"
        met = None if asked is None else mean >= asked
        yield Row(group, "" if asked is None else f"{asked:g}×", measured, len(ratios), met)


def describe(cell: Cell) -> str:
    """A cell in a few words."""
    if not isinstance(cell, Layer):
        return str(cell)
    ways = "" if cell.directions == 1 else " both ways"
    threads = "" if cell.threads == 1 else f", {cell.threads} threads"
    return f"{cell.op} {cell.hidden}, batch {cell.batch}, {cell.steps} steps{ways}{threads}"
