"""Measure lightrnn beside one other engine, in a process of their own.

`python -m bench.pair ENGINE SECONDS` reads cells as JSON lines from stdin and writes a result for
each: medians, the spread of the ratio, the largest difference of the outputs. Runs alternate, and
the process is pinned to as many cores as it may use threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench import engines
from bench.cells import Cell

LEAST = 7
"""Runs of each engine at least."""


def measure(cell: Cell, engine: str, seconds: float) -> dict[str, Any]:
    """One cell. Raises NotImplementedError for a layer that the engine does not have."""
    cores = sorted(os.sched_getaffinity(0))[: cell.threads]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        shape = cell.steps, cell.batch, cell.hidden
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        ours = engines.lightrnn(cell, x)
        theirs = engines.ENGINES[engine](cell, x)
        found, wanted = ours(), theirs()
        difference = found.astype(np.float64) - wanted
        times = _interleaved(ours, theirs, seconds)
    finally:
        os.sched_setaffinity(0, before)
    ratios = times[:, 1] / times[:, 0]
    return {
        **cell.to_json(),
        "engine": engine,
        "lightrnn_us": float(np.median(times[:, 0]) * 1e6),
        "engine_us": float(np.median(times[:, 1]) * 1e6),
        "ratio": float(np.median(ratios)),
        "ratio_low": float(np.percentile(ratios, 25)),
        "ratio_high": float(np.percentile(ratios, 75)),
        "runs": len(times),
        "max_difference": float(np.abs(difference).max()),
        "rms_difference": float(np.sqrt(np.mean(difference**2))),
    }


def _interleaved(
    first: Callable[[], object], second: Callable[[], object], seconds: float
) -> np.ndarray[tuple[Any, ...], np.dtype[np.float64]]:
    """Seconds of both, [runs, 2], warmed up."""
    rows: list[tuple[float, float]] = []
    for _ in range(3):
        first(), second()
    end = time.perf_counter() + seconds
    while len(rows) < LEAST or (time.perf_counter() < end and len(rows) < 20_000):
        a = time.perf_counter()
        first()
        b = time.perf_counter()
        second()
        rows.append((b - a, time.perf_counter() - b))
    return np.array(rows)


def main() -> None:
    engine, seconds = sys.argv[1], float(sys.argv[2])
    for line in sys.stdin:
        cell = Cell(**json.loads(line))
        try:
            result = measure(cell, engine, seconds)
        except NotImplementedError:
            continue
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
