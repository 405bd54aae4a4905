"""What is measured: layers by kind, size, batch, steps, directions and threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.models import GATES

OPS = ("LSTM", "GRU", "RNN")
SIZES = (32, 64, 100, 128, 256, 500, 512, 1024)
BATCHES = (1, 4, 8, 32)
STEPS = (1, 20, 100, 500)
MOST = 250e6
"""Multiply-adds of a cell at most: the largest take seconds a run."""


@dataclass(frozen=True)
class Cell:
    """One layer at one shape. dtype: how lightrnn stores the weights."""

    op: str
    hidden: int
    batch: int
    steps: int
    directions: int = 1
    threads: int = 1
    dtype: str = "float32"

    @property
    def multiplies(self) -> int:
        """Multiply-adds of a run: input and recurrent products."""
        each = 2 * GATES[self.op] * self.hidden**2
        return each * self.batch * self.steps * self.directions

    @property
    def recurrent_bytes(self) -> int:
        """Bytes of float32 recurrent weights, which every step reads."""
        return 4 * GATES[self.op] * self.hidden**2 * self.directions

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def layers(quick: bool, threads: tuple[int, ...]) -> Iterator[Cell]:
    """Float32 cells; a few of each kind if `quick`."""
    sizes = (32, 64, 256, 512) if quick else SIZES
    batches = (1, 8) if quick else BATCHES
    steps = (1, 20, 100) if quick else STEPS
    for op in OPS:
        for hidden in sizes:
            for batch in batches:
                for time in steps:
                    for count in threads:
                        cell = Cell(op, hidden, batch, time, threads=count)
                        if cell.multiplies <= MOST and not (count > 1 and time == 1):
                            yield cell
        for hidden in (64, 256):
            yield Cell(op, hidden, 4, 50, directions=2)
