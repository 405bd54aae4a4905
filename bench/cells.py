"""What is measured: a cell is one model at one size, a number of threads and a storage type."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench.models import GATES


@dataclass(frozen=True)
class Layer:
    """One recurrent layer whose input is as wide as its state.

    threads: of each engine. dtype: how lightrnn stores the weights, here as in all cells.
    """

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
        """Bytes of float32 recurrent weights of one direction, which every step reads."""
        return 4 * GATES[self.op] * self.hidden**2


@dataclass(frozen=True)
class Step:
    """One step of a layer, batch 1.

    way: "run" (x in, y out), "states" (states in and out as well, fed back by the caller) or
    "stream" (lightrnn keeps the states in a stream; other engines do as in "states").
    """

    op: str
    hidden: int
    way: str
    threads: int = 1
    dtype: str = "float32"


@dataclass(frozen=True)
class Attention:
    """Attention of 256 units.

    kind: "multi-head" (4 heads, with its projections), "additive", or "concatenated" (one query).
    """

    kind: str
    queries: int
    keys: int
    batch: int = 1
    threads: int = 1
    dtype: str = "float32"


@dataclass(frozen=True)
class Whole:
    """A whole model.

    model: "language identifier" (examples/langid), "decoder step" (of examples/g2p-en: GRU,
    attention to `length` letters, logits), "audio stream" (a chunk of samples: STFT, convolutions,
    LSTM with states) or "character model" (two layers of LSTM). way: as of `Step`.
    """

    model: str
    batch: int
    length: int
    way: str = "run"
    threads: int = 1
    dtype: str = "float32"


Cell = Layer | Step | Attention | Whole
KINDS: dict[str, type[Cell]] = {kind.__name__: kind for kind in (Layer, Step, Attention, Whole)}


def to_json(cell: Cell) -> dict[str, Any]:
    """The cell's fields and its kind."""
    return {"cell": type(cell).__name__, **asdict(cell)}


def from_json(found: dict[str, Any]) -> Cell:
    """The cell of a result, which may have other fields besides."""
    kind = KINDS[found["cell"]]
    return kind(**{name: found[name] for name in kind.__dataclass_fields__})
