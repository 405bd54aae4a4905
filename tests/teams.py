"""Run a bound plan on a given number of threads, every one of which is sure to take part."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lightrnn.engine.arena import Arena, NativeCall
from lightrnn.engine.plan import Plan
from lightrnn.graph import Array
from lightrnn.native import library

MOST = 4
_threads = ThreadPoolExecutor(MOST)
"""Idle threads: a task that waits at a barrier keeps its own, so `MOST` tasks always meet."""


def run_on(threads: int, plan: Plan, arrays: Sequence[Array]) -> list[Array]:
    """The plan's outputs, in an arena that held NaN everywhere before."""
    assert threads <= MOST
    kernels = library.load()
    assert kernels is not None
    arena = Arena()
    frame = arena.make_frame(plan, kernels.addresses)
    arena._memory[:] = 0xFF
    for place, array in zip(frame.inputs, arrays, strict=True):
        place[...] = array
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    execute = kind(kernels.addresses["execute"])
    for step in frame.steps:
        assert isinstance(step, NativeCall), "a host step"
        calls = [_threads.submit(execute, step.args, ith, threads) for ith in range(threads)]
        for call in calls:
            call.result()
    assert not frame.status[0]
    return [place.copy() for place in frame.outputs]
