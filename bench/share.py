"""How near layers come to what the machine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.cells import Cell, Layer, from_json
from bench.engines import LIMIT
from bench.limits import LEVELS, PEAK, reading
from bench.results import Result, against

LONG = 20
"""Steps from which a sequence counts as long."""


def shares(results: Sequence[Result]) -> dict[Cell, float]:
    """Shares of the limit: of a layer's time, what its `limits.bound` took beside it."""
    return {from_json(dict(r)): r["ratio"] for r in against(results, [LIMIT])}


def _rate(nbytes: float, limits: Mapping[str, float]) -> float:
    level = next((n for n, size in LEVELS.items() if nbytes <= size), next(reversed(LEVELS)))
    return limits[reading(level)]


def has_share(cell: Layer) -> bool:
    """Whether a layer is measured beside its bound: some, on one thread and not too short."""
    return cell.threads == 1 and cell.steps >= LONG and cell.batch in (1, 32)


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
