"""Kernels of the library called by themselves."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from lightrnn.engine.memory import address, aligned_copy
from lightrnn.native import library
from lightrnn.ops.packing import panels


def gemm(m: int, k: int, n: int) -> Callable[[], object]:
    """A call of the matrix product [m, k]·[k, n] on one thread."""
    kernels = library.load()
    assert kernels is not None, "no kernel library"
    rng = np.random.default_rng(0)
    a = aligned_copy(rng.standard_normal((m, k)).astype(np.float32))
    b = aligned_copy(panels(rng.standard_normal((k, n)).astype(np.float32)))
    c = aligned_copy(np.zeros((m, n), np.float32))
    words = [address(a), address(b), 0, address(c), 1, m, n, k, k, 0, n, 0, 0, 0, 0, 0, 0]
    args = np.array(words, np.int64)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    call = kind(kernels.addresses["gemm"])
    place, alive = address(args), (a, b, c, args)

    def run(kept: Any = alive) -> None:
        call(place, 0, 1)

    return run
