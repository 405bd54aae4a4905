"""Results as `python -m bench` writes them, made up."""

from __future__ import annotations

from typing import Any

from bench.cells import Cell, to_json
from bench.limits import LEVELS, PEAK, reading
from bench.results import Part

MACHINE: dict[str, Any] = {
    "cpu": "Some CPU", "cores": 2, "caches": {"L1": 2**15, "L2": 2**20}, "extensions": ["avx2"],
    "system": "Linux", "python": "3.11", "numpy": "2.4",
    "limits": {PEAK: 100.0, **{reading(level): 50.0 for level in LEVELS}},
}  # fmt: skip


def pair(cell: Cell, engine: str, ratio: float, us: float = 100.0, **more: Any) -> dict[str, Any]:
    """What `bench.pair` gives for a cell where lightrnn takes `us` microseconds."""
    return {
        **to_json(cell), "engine": engine, "lightrnn_us": us, "engine_us": us * ratio,
        "ratio": ratio, "ratio_low": 0.9 * ratio, "ratio_high": 1.1 * ratio, "runs": 9, **more,
    }  # fmt: skip


def part(*results: dict[str, Any], extensions: tuple[str, ...] = ("avx2",)) -> Part:
    """A full run's part."""
    return Part({**MACHINE, "extensions": extensions}, False, results)
