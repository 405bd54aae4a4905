"""What an operator's `lower` can ask of the engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lightrnn.graph import Array, TensorType

if TYPE_CHECKING:
    from lightrnn.ops.recurrent_lowering import Layer


class Ref(NamedTuple):
    """A place in memory: `offset` bytes into a base that the engine knows by number."""

    base: int
    offset: int = 0

    def __add__(self, nbytes: int) -> Ref:  # type: ignore[override]
        return Ref(self.base, self.offset + nbytes)


class Operand(NamedTuple):
    """A node's input or output while lowering: contiguous, row-major, all sizes known.

    name: the tensor's name in the graph.
    type: its concrete type; `type.value` is set when the tensor is known before the run.
    ref: where it lies; aligned to 64 bytes unless it is a view.
    constant: whether it is a constant of the model (then packed forms of it are shared).
    stored: how the model's file stores it (format.encodings); its value is decoded already.
    """

    name: str
    type: TensorType
    ref: Ref
    constant: bool = False
    stored: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.sizes

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.type.sizes:
            n *= d
        return n

    @property
    def value(self) -> Array | None:
        return self.type.value


class Emitter(Protocol):
    """Collects the kernel calls of one bound plan."""

    @property
    def target(self) -> str:
        """What the plan is for, "cpu" or "cuda": how much is done at once depends on it."""

    @property
    def level(self) -> str:
        """The level of the kernels on a CPU (abi.LEVELS), or nothing: products depend on it."""

    def call(self, kernel: str, *args: Ref | Operand | int | float | None, work: int) -> None:
        """Append a kernel call; `args` follow `native.abi.KERNELS[kernel]`.

        None is a null pointer. work: scalar multiply-adds or elements, to decide on threads.
        """

    def layer(self, layer: Layer) -> None:
        """Emit a recurrent layer, perhaps together with layers that alone come next and read it."""

    def side_by_side(self, parts: Sequence[Callable[[], None]]) -> None:
        """Let each of `parts` emit its calls; they read nothing that another part writes.

        Threads of a run share them out, so that what is too little for all threads keeps some busy.
        """

    def scratch(self, nbytes: int) -> Ref:
        """Memory, 64-byte aligned, uninitialised, that lives for this node alone."""

    def constant(self, array: Array) -> Ref:
        """A place that holds `array` (copied, 64-byte aligned) for the life of the plan."""

    def packed(
        self, sources: tuple[Operand, ...], layout: Hashable, pack: Callable[..., Array]
    ) -> Ref:
        """A place that holds `pack(*values of sources)`; all sources must have values.

        Kept once a model under (names of the sources, layout) where all are constants.
        """

    def view(self, output: Operand, source: Operand, offset: int = 0) -> bool:
        """Let `output` lie inside `source`, `offset` bytes in, instead of in memory of its own.

        Returns False where that is not possible (then copy instead).
        """
