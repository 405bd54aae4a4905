"""Run one kernel, or one operator's lowering, without the engine.

Three ways: `interpreted` runs the kernel's Python over spans that check every access; `native` runs
the compiled library on arrays that end at an unreadable page; both take any number of threads.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from lightrnn.graph import Array, TensorType
from lightrnn.kernels import interpreted
from lightrnn.native import abi, library
from lightrnn.native.build import load_entry
from lightrnn.ops.lowering import Operand, Ref
from lightrnn.ops.recurrent_lowering import Layer, lower_layer
from lightrnn.ops.registry import Operator

BACKENDS = ("interpreted", "native")
_libc = ctypes.CDLL(None)


@functools.cache
def _native(name: str) -> Any:
    kernels = library.load()
    assert kernels is not None
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return kind(kernels.addresses[name])


_entry = functools.cache(load_entry)


def guarded(array: Array, align: int = 1) -> Array:
    """A copy whose last byte is followed by an unreadable page.

    align: the copy's address is a multiple of this, so the page may begin a little later.
    """
    page = mmap.PAGESIZE
    size = -(-array.nbytes // align) * align
    room = -(-max(size, 1) // page) * page
    memory = mmap.mmap(-1, room + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert _libc.mprotect(ctypes.c_void_p(start + room), ctypes.c_size_t(page), 0) == 0
    flat = np.frombuffer(memory, np.uint8)[room - size : room - size + array.nbytes]
    copy = flat.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def run_kernel(
    name: str, *args: Any, backend: str, nth: int = 1, threads: Sequence[int] | None = None
) -> None:
    """Run a kernel on arrays (passed by address), integers, floats and None (null).

    A kernel with a barrier runs with nth == 1 only. `status` and `sync` arguments are passed as
    int64 arrays. threads: those of `nth` that run, one after the other; by default all.
    """
    words = []
    spans = interpreted.Memory()
    kinds = [p.kind for p in abi.KERNELS[name].parameters]
    assert len(args) >= len(kinds) - ("tail" in kinds), (name, kinds)
    for k, arg in enumerate(args):
        if arg is None:
            words.append(0)
        elif isinstance(arg, np.ndarray):
            assert arg.flags.c_contiguous
            words.append(spans.add(arg))
        elif isinstance(arg, float) or (k < len(kinds) and kinds[k] == "float"):
            words.append(struct.unpack("<q", struct.pack("<d", arg))[0])
        else:
            words.append(int(arg))
    table = np.array(words, np.int64)
    for ith in range(nth) if threads is None else threads:
        if backend == "native":
            _native(name)(address(table), ith, nth)
        else:
            interpreted.MEMORY._regions = spans._regions
            _entry(abi.KERNELS[name])(interpreted.Span(table), ith, nth)


def spans(*arrays: Array) -> list[Any]:
    """Arrays as the interpreted kernels' pointers, until the next call of this or `run_kernel`."""
    memory = interpreted.Memory()
    places = [memory.add(array) for array in arrays]
    interpreted.MEMORY._regions = memory._regions
    return [memory.span(p, a.dtype) for p, a in zip(places, arrays, strict=True)]


class DirectEmitter:
    """An emitter that runs every call at once. level: as `Emitter.level`."""

    target = "cpu"

    def __init__(self, backend: str, nth: int = 1, level: str = "") -> None:
        self.backend, self.level = backend, level
        self.nth = nth
        self.bases: list[Array] = []
        self.views: dict[str, Ref] = {}
        self.calls: list[str] = []
        self.status = np.zeros(2, np.int64)

    def place(self, array: Array) -> Ref:
        """Hold a copy of an array at the end of a page, aligned to 64 bytes."""
        self.bases.append(guarded(np.ascontiguousarray(array), 64).reshape(-1).view(np.uint8))
        return Ref(len(self.bases) - 1)

    def call(self, kernel: str, *args: Any, work: int) -> None:
        assert isinstance(work, int)
        assert work >= 0
        words: list[Any] = [self._argument(arg) for arg in args]
        for k, p in enumerate(abi.KERNELS[kernel].parameters):
            if p.kind in abi.FILLED_IN:
                words.insert(k, self._filled_in(p.kind))
        self.calls.append(kernel)
        self.run(kernel, words)

    def run(self, kernel: str, words: Sequence[Any]) -> None:
        run_kernel(kernel, *words, backend=self.backend, nth=self.nth)

    def layer(self, layer: Layer) -> None:
        lower_layer(self, layer)

    def side_by_side(self, parts: Sequence[Callable[[], None]]) -> None:
        for part in parts:
            part()

    def _filled_in(self, kind: str) -> Any:
        if kind == "node":
            return 0
        return self.status if kind == "status" else np.zeros(16, np.int64)

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, Operand):
            arg = self.views.get(arg.name, arg.ref)
        if isinstance(arg, Ref):
            return self.bases[arg.base][arg.offset :]
        return arg

    def scratch(self, nbytes: int) -> Ref:
        return self.place(np.full(nbytes, 0xFF, np.uint8))

    def constant(self, array: Array) -> Ref:
        return self.place(array)

    def packed(
        self, sources: tuple[Operand, ...], layout: Hashable, pack: Callable[..., Array]
    ) -> Ref:
        assert all(s.value is not None for s in sources)
        return self.place(pack(*(s.value for s in sources)))

    def view(self, output: Operand, source: Operand, offset: int = 0) -> bool:
        self.views[output.name] = self.views.get(source.name, source.ref) + offset
        return True

    def read(self, operand: Operand) -> Array:
        ref = self.views.get(operand.name, operand.ref)
        data = self.bases[ref.base][ref.offset :]
        nbytes = operand.size * operand.type.dtype.itemsize
        result: Array = data[:nbytes].view(operand.type.dtype).reshape(operand.shape).copy()
        return result


def run_lowered(
    op: Operator,
    inputs: Sequence[Array | None],
    backend: str,
    *,
    nth: int = 1,
    constants: Sequence[int] = (),
    stored: Mapping[int, str] | None = None,
    asked: Sequence[str] = (),
    emitter: Callable[[str, int], DirectEmitter] | None = None,
) -> tuple[Array | None, ...] | None:
    """The outputs of an operator computed by its kernels; None where it has none for these inputs.

    constants: positions of the inputs whose values are known while lowering. stored: how
    those at some positions are stored, if not as float32. asked: outputs that somebody reads, ""
    for one that nobody does; empty for all. The others come back as None. emitter: what makes the
    emitter, if it is not the usual one.
    """
    emit = (emitter or DirectEmitter)(backend, nth)
    operands: list[Operand | None] = []
    types: list[TensorType | None] = []
    for k, array in enumerate(inputs):
        if array is None:
            operands.append(None)
            types.append(None)
            continue
        known = TensorType(array.dtype, array.shape, array if k in constants else None)
        types.append(known)
        kept = (stored or {}).get(k, "float32")
        operands.append(Operand(f"in{k}", known, emit.place(array), k in constants, kept))
    outputs: list[Operand | None] = []
    for k, inferred in enumerate(op.infer(types)):
        if asked and not (k < len(asked) and asked[k]):
            outputs.append(None)
            continue
        empty = np.empty(inferred.sizes, inferred.dtype)
        empty.reshape(-1).view(np.uint8)[:] = 0xFF
        outputs.append(Operand(f"out{k}", inferred, emit.place(empty)))
    if not op.lower(emit, operands, outputs):
        assert not emit.calls, "emitted calls, then gave up"
        return None
    return tuple(None if o is None else emit.read(o) for o in outputs)
