"""What the executor asks of a GPU. `cuda.device` is a real one; tests have one of host memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from lightrnn.graph import Array


class Stream(Protocol):
    """A queue of work, done in order."""

    @property
    def handle(self) -> int:
        """The number that CUDA knows it by."""


Work: TypeAlias = Callable[[Stream], None]
"""Puts work on a stream and does not wait for it."""


class Memory(Protocol):
    """GPU memory, freed when the object is no longer referenced and all work that uses it is done.

    address: a multiple of 256.
    """

    address: int
    nbytes: int

    def used_by(self, stream: Stream | None) -> None:
        """Note who else reads the memory: a stream, or None for one that is not known."""


class Device(Protocol):
    """A GPU. Any method raises DeviceError where the GPU fails, or the process was forked."""

    @property
    def dlpack(self) -> tuple[int, int]:
        """What DLPack calls it: kind and number."""

    def activate(self) -> None:
        """Make it current on the calling thread; before any other call there."""

    def stream(self) -> Stream:
        """A new stream."""

    def borrow(self, handle: int) -> Stream:
        """Somebody else's stream; 0 and 1 are the default one, 2 the default one per thread."""

    def allocate(self, nbytes: int, stream: Stream) -> Memory:
        """Memory that may be used on `stream` from now on; freed there. DeviceError without any."""

    def pinned(self, nbytes: int) -> Array:
        """uint8 [nbytes] of host memory, zeros, that kernels find at the same address."""

    def upload(self, target: int, source: Array, stream: Stream) -> None:
        """Copy a contiguous host array to an address; it must keep its contents until then."""

    def download(self, target: Array, source: int, stream: Stream) -> None:
        """Copy from an address to a contiguous host array."""

    def copy(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        """Copy between places on the GPU that do not overlap."""

    def clear(self, target: int, nbytes: int, stream: Stream) -> None:
        """Fill with zero bytes."""

    def order(self, before: Stream, after: Stream) -> None:
        """Let what `after` gets from now on wait for what `before` has got so far."""

    def synchronize(self, stream: Stream) -> None:
        """Wait until a stream has done its work."""

    def calls(self, kernel: str, words: Sequence[int], tail: int) -> Work:
        """What launches a kernel of `native.abi`.

        words: its arguments with every address resolved. tail: the address on the GPU of those that
        are a tail.
        """

    def side_by_side(
        self, kernel: str, layers: Sequence[Sequence[int]], sync: int, table: int
    ) -> Work | None:
        """What launches one call of a recurrent kernel for each of several layers, all at once.

        layers: the words of each. table: the address of the same, tails as addresses, one layer's
        after the other's. None where one launch cannot do them.
        """

    def capture(self, record: Work) -> Work:
        """What replays all that `record` puts on the stream that it is given, as one launch."""


def handle_of(stream: Any) -> int:
    """The handle of a stream that a caller passes: a number, or an object with __cuda_stream__.

    Raises TypeError for anything else.
    """
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    method = getattr(stream, "__cuda_stream__", None)
    if method is None:
        raise TypeError(f"{type(stream).__name__} is not a stream: pass its handle as an int")
    return int((method() if callable(method) else method)[1])
