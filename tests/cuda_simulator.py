"""Run GPU kernels without a GPU: their Python, one thread of this process for each of the grid's.

Memory is host memory that `interpreted.MEMORY` knows, every access checked. The blocks of a
cooperative launch run at once, those of others one after the other; shared memory starts as NaN.
"""

from __future__ import annotations

import functools
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lightrnn.cuda.build import load_function
from lightrnn.cuda.grid import SYNC_BYTES, Gpu, Launch
from lightrnn.cuda.kernels import simt
from lightrnn.cuda.launch import SYMBOLS, launch
from lightrnn.graph import Array
from lightrnn.kernels import interpreted
from lightrnn.native import abi
from tests.kernels import DirectEmitter

GPU = Gpu(multiprocessors=2, shared_per_block=96 * 1024, threads=4)
"""A small one, so that its threads can be Python's."""
_PATIENCE = 60.0


class _Block:
    """The threads of one block: where they meet, and what they share."""

    def __init__(self, threads: int, shared: int, failed: threading.Event) -> None:
        self.failed = failed
        self.meeting = threading.Barrier(threads) if threads > 1 else None
        self.memory = np.full(shared // 4, np.nan, np.float32)
        self.board = np.full(threads, np.nan, np.float32)

    def wait(self) -> None:
        if self.meeting is not None:
            self.meeting.wait(_PATIENCE)

    def pause(self) -> None:
        if self.failed.is_set():
            raise RuntimeError("another thread of the grid failed")
        time.sleep(0)


_function = functools.cache(load_function)


def simulate(one: Launch, words: Sequence[int]) -> None:
    """Run a launch; `words` are the instruction's arguments, a tail's being its address."""
    symbol = SYMBOLS[one.symbol]
    assert 1 <= one.block <= symbol.threads, one
    given = [*(one.words or words), *one.extra]
    args = [_argument(k, w) for k, w in zip(_kinds(one.symbol), given, strict=True)]
    function, failed, errors = _function(symbol), threading.Event(), list[BaseException]()
    groups = [range(one.grid)] if one.cooperative else [range(b, b + 1) for b in range(one.grid)]
    for group in groups:
        tasks = []
        for number in group:
            block = _Block(one.block, one.shared, failed)
            for thread in range(one.block):
                tasks.append(_Task(function, args, one, number, thread, block, errors))
        if len(tasks) == 1:
            tasks[0]()
        else:
            _run_together(tasks)
        if errors:
            raise errors[0]


class _Task:
    """One thread of a grid."""

    def __init__(
        self, function: Callable[..., None], args: list[Any], one: Launch, number: int, thread: int,
        block: _Block, errors: list[BaseException],
    ) -> None:  # fmt: skip
        self._function, self._args, self._block, self._errors = function, args, block, errors
        self._place = {
            "thread": thread, "threads": one.block, "block": number, "blocks": one.grid,
            "wait": block.wait, "pause": block.pause, "memory": block.memory,
            "board": block.board,
        }  # fmt: skip

    def __call__(self) -> None:
        for name, value in self._place.items():
            setattr(simt.HERE, name, value)
        try:
            with np.errstate(all="ignore"):
                self._function(*self._args)
        except threading.BrokenBarrierError as error:
            if not self._block.failed.is_set():
                self._errors.append(error)
        except BaseException as error:  # a thread's error is raised by `simulate`
            self._errors.insert(0, error)
            self._block.failed.set()
            if self._block.meeting is not None:
                self._block.meeting.abort()


def _run_together(tasks: Sequence[_Task]) -> None:
    workers = [threading.Thread(target=task, daemon=True) for task in tasks]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@functools.cache
def _kinds(name: str) -> tuple[str, ...]:
    symbol = SYMBOLS[name]
    return (*abi.KERNELS[symbol.kernel].kinds, *("int" for _ in symbol.extra))


def _argument(kind: str, word: int) -> Any:
    if kind in ("int", "node"):
        return int(word)
    if kind == "float":
        return simt.as_float(word)
    name = "i64" if kind in ("tail", "status", "sync", "table") else kind
    return getattr(simt, name)(word)


def run_kernel(name: str, *args: Any, gpu: Gpu = GPU) -> tuple[Launch, ...]:
    """Run an instruction on arrays (passed by address), integers, floats and None (null).

    Returns the launches.
    """
    kinds = abi.KERNELS[name].kinds
    memory, words = interpreted.Memory(), list[int]()
    for k, arg in enumerate(args):
        if arg is None:
            words.append(0)
        elif isinstance(arg, np.ndarray):
            assert arg.flags.c_contiguous
            words.append(memory.add(arg))
        elif isinstance(arg, float) or (k < len(kinds) and kinds[k] == "float"):
            words.append(struct.unpack("<q", struct.pack("<d", arg))[0])
        else:
            words.append(int(arg))
    launches = launch(name, words, gpu)
    if kinds[-1] == "tail":
        tail = np.array(words[len(kinds) - 1 :], np.int64)
        words[len(kinds) - 1 :] = [memory.add(tail)]
    before, interpreted.MEMORY = interpreted.MEMORY, memory
    try:
        for one in launches:
            simulate(one, words)
    finally:
        interpreted.MEMORY = before
    return launches


def aligned(array: Array) -> Array:
    """A copy at a multiple of 64 bytes, as packed weights are."""
    room = np.empty(array.nbytes + 64, np.uint8)
    skip = -int(room.__array_interface__["data"][0]) % 64
    copy = room[skip : skip + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def new_sync() -> Array:
    """What kernels find at `sync` before their first launch."""
    return aligned(np.zeros(SYNC_BYTES // 8, np.int64))


class GpuEmitter(DirectEmitter):
    """An emitter that runs every call at once, on a simulated GPU."""

    target = "cuda"

    def __init__(
        self, backend: str = "cuda", nth: int = 1, gpu: Gpu = GPU, sync: Array | None = None
    ) -> None:
        super().__init__(backend, nth)
        self.launched: list[Launch] = []
        self._gpu, self._sync = gpu, new_sync() if sync is None else sync

    def _filled_in(self, kind: str) -> Any:
        return self._sync if kind == "sync" else super()._filled_in(kind)

    def run(self, kernel: str, words: Sequence[Any]) -> None:
        self.launched += run_kernel(kernel, *words, gpu=self._gpu)
