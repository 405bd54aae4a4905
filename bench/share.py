"""The time that a layer needs at least on a machine whose limits were measured."""

from __future__ import annotations

from collections.abc import Mapping

from bench.cells import Layer
from bench.limits import LEVELS, PEAK, reading


def least_us(cell: Layer, limits: Mapping[str, float]) -> float:
    """Microseconds at the limits, float32.

    All multiply-adds at the peak of arithmetic; or the reading of the inputs' weights once and of
    the recurrent ones at each step but the first, whose state is zeros; whichever takes longer.
    Weights come from the level of cache that holds them, shared by the threads.
    """
    peak = limits[PEAK] * 1e9 * cell.threads
    weights = cell.recurrent_bytes * cell.directions
    fetch = weights / (_rate(cell.recurrent_bytes / cell.threads, limits) * 1e9 * cell.threads)
    arithmetic = cell.multiplies / peak  # of either product: half the multiply-adds, two each
    return max((2 - 1 / cell.steps) * arithmetic, cell.steps * fetch) * 1e6


def _rate(nbytes: float, limits: Mapping[str, float]) -> float:
    level = next((n for n, size in LEVELS.items() if nbytes <= size), next(reversed(LEVELS)))
    return limits[reading(level)]


def in_second_cache(cell: Layer, caches: Mapping[str, int]) -> bool:
    """Whether the recurrent weights are larger than the first level of cache, not the second."""
    return caches.get("L1", 2**15) < cell.recurrent_bytes <= caches.get("L2", 2**20)


def held_by(cell: Layer, limits: Mapping[str, float]) -> str:
    """What a layer waits for at the limits."""
    weights = cell.recurrent_bytes / cell.threads
    fetch = weights / (_rate(weights, limits) * 1e9)
    arithmetic = 2 * cell.multiplies / (limits[PEAK] * 1e9 * cell.threads * cell.steps)
    if arithmetic >= fetch * cell.directions:
        return "arithmetic"
    return f"reading {weights / 2**20:.2g} MiB of weights a step"
