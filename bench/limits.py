"""What one core can do, measured by loops that do nothing else: multiply-adds and reads.

They are written with the vectors of `lightrnn.kernels.simd` and compiled by Numba here and now;
no kernel of the library takes part, so that its share of the limit is a share of something else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from bench.cells import Layer
from lightrnn.engine.memory import address, aligned_copy
from lightrnn.graph import Array

LEVELS = {
    "16 KiB": 2**14, "256 KiB": 2**18, "1 MiB": 2**20, "2 MiB": 2**21, "4 MiB": 2**22,
    "16 MiB": 2**24, "128 MiB": 2**27,
}  # fmt: skip
PEAK = "peak, GFLOP/s"
ROUNDS = 200_000
READ = 2**25
"""Bytes of one measurement at least: a small array is read again and again."""


def reading(level: str) -> str:
    """The name of the rate at which an array of this size is read."""
    return f"reading {level}, GB/s"


def _best(run: Callable[[], object], times: int = 9) -> float:
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return min(spent)


@cache
def _multiply_adds() -> Callable[[int, int], None]:
    """Rounds of ten independent multiply-adds of 16 lanes, at an address of 16 numbers."""
    from numba import int64, njit, void

    from lightrnn.kernels.simd import f32, fma, load, store

    @njit(void(int64, int64))  # type: ignore[untyped-decorator]
    def loop(place: int, rounds: int) -> None:
        p: Any = f32(place)
        x = load(p, 0)
        a = b = c = d = e = f = g = h = i = j = x
        for _ in range(rounds):
            a, b, c, d, e = fma(a, x, x), fma(b, x, x), fma(c, x, x), fma(d, x, x), fma(e, x, x)
            f, g, h, i, j = fma(f, x, x), fma(g, x, x), fma(h, x, x), fma(i, x, x), fma(j, x, x)
        store(p, 0, a + b + c + d + e + f + g + h + i + j)

    return loop


@cache
def _reads() -> Callable[[int, int, int], None]:
    """Rounds of reading `count` numbers at an address, 128 at a time."""
    from numba import int64, njit, void

    from lightrnn.kernels.simd import f32, load, splat, store

    @njit(void(int64, int64, int64))  # type: ignore[untyped-decorator]
    def loop(place: int, count: int, rounds: int) -> None:
        p: Any = f32(place)
        a = b = c = d = e = f = g = h = splat(0.0)
        for _ in range(rounds):
            for k in range(0, count, 128):
                a, b = a + load(p, k), b + load(p, k + 16)
                c, d = c + load(p, k + 32), d + load(p, k + 48)
                e, f = e + load(p, k + 64), f + load(p, k + 80)
                g, h = g + load(p, k + 96), h + load(p, k + 112)
        store(p, 0, a + b + c + d + e + f + g + h)

    return loop


def measured() -> dict[str, float]:
    """Floating-point operations and bytes a second of one core, in units of 1e9, by name."""
    multiply_adds, read, numbers = _multiply_adds(), _reads(), _numbers()
    spent = _best(lambda: multiply_adds(address(numbers), ROUNDS))
    found = {PEAK: 2 * 16 * 10 * ROUNDS / spent / 1e9}
    for level, nbytes in LEVELS.items():
        array = aligned_copy(np.zeros(nbytes // 4, np.float32))
        place, count, rounds = address(array), array.size, max(1, READ // nbytes)

        def run(place: int = place, count: int = count, rounds: int = rounds) -> None:
            read(place, count, rounds)

        found[reading(level)] = rounds * nbytes / _best(run) / 1e9
    return found


def _numbers() -> Array:
    return aligned_copy(np.full(16, 1e-3, np.float32))


def bound(cell: Layer) -> Callable[[], None]:
    """What a layer does at least in float32 on one core, by the same loops.

    All its multiply-adds; or the reading of recurrent weights at each step but the first, whose
    state is zeros, and of the inputs' as large ones once: whichever takes longer.
    """
    multiply_adds, read, numbers = _multiply_adds(), _reads(), _numbers()
    rounds = round(cell.multiplies * (1 - 0.5 / cell.steps) / (16 * 10))
    weights = aligned_copy(np.zeros(-(-cell.recurrent_bytes // 512) * 128, np.float32))

    def compute() -> None:
        multiply_adds(address(numbers), rounds)

    def fetch() -> None:
        for _ in range(cell.directions):
            read(address(weights), weights.size, cell.steps)

    return max(compute, fetch, key=_best)
