"""Measure lightrnn beside one other engine, in a process of their own.

`python -m bench.pair ENGINE SECONDS` reads cells as JSON lines from stdin and writes a result for
each: medians, the spread of the ratio, the differences of the outputs, errors against float64.
Outputs are compared first, runs alternate, and the process is pinned to as many cores as it may use
threads.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from bench import cells, recurrent
from bench.attention import attention
from bench.cells import Attention, Cell, Layer, Step
from bench.engines import ENGINES, LIMIT, Running, UnavailableError, lightrnn
from bench.limits import bound
from bench.subject import Subject, evaluated
from bench.wholes import whole
from lightrnn.graph import Array

LEAST = 7
"""Runs of each engine at least."""
MOST = 20_000
WARM = 3
TURN, TURN_SECONDS, PAUSE = 15, 0.05, 0.06
"""Runs and seconds of a turn at most, and seconds before it, where engines have threads of their
own: onnxruntime's spin for 40 ms after a run. A machine's two virtual cores may be one core's two
threads for some tenths of a second: turns are shorter than that."""
LONGER = 6
"""Times the seconds for a cell with several threads: what disturbs one of them lasts for longer."""
DIFFER = "its outputs differ from lightrnn's"
"""Begins the reason why such an engine is not timed."""
ALLOWED = {True: 1e-4, False: 0.1}
"""RMS of the difference of outputs of size 1; by whether both compute in float32."""


def subject_of(cell: Cell) -> Subject:
    """What a cell measures."""
    if isinstance(cell, Layer):
        return recurrent.layer(cell)
    if isinstance(cell, Step):
        return recurrent.step(cell)
    return attention(cell) if isinstance(cell, Attention) else whole(cell)


def measure(cell: Cell, engine: str, seconds: float) -> dict[str, Any]:
    """One cell. Raises UnavailableError where the engine cannot run it, or gives other outputs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[: cell.threads])
    try:
        subject = subject_of(cell)
        ours = lightrnn(subject, cell.threads, cell.dtype)
        alone, compared = cell.threads == 1 and engine != LIMIT, {}
        if engine == LIMIT:
            assert isinstance(cell, Layer)
            theirs = Running(bound(cell), list)
        else:
            theirs = _theirs(subject, cell, engine)
            compared = _compared(cell, engine, subject, ours, theirs)
        spent = seconds if alone else LONGER * seconds
        times = interleaved(ours.run, theirs.run, spent, alone=alone)
    finally:
        os.sched_setaffinity(0, before)
    ratios = times[:, 1] / times[:, 0]
    return {
        **cells.to_json(cell),
        "engine": engine,
        "lightrnn_us": float(np.median(times[:, 0]) * 1e6),
        "engine_us": float(np.median(times[:, 1]) * 1e6),
        "ratio": float(np.median(ratios)),
        "ratio_low": float(np.percentile(ratios, 25)),
        "ratio_high": float(np.percentile(ratios, 75)),
        "runs": len(times),
        **compared,
    }


def _theirs(subject: Subject, cell: Cell, engine: str) -> Running:
    """The other engine, which may refuse a model in any way it likes."""
    try:
        made = ENGINES[engine](subject, cell.threads, cell.dtype)
        made.run()
    except UnavailableError:
        raise
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        raise UnavailableError(f"{type(error).__name__}: {first[:200]}") from error
    return ENGINES[engine](subject, cell.threads, cell.dtype) if subject.carried else made


def _compared(
    cell: Cell, engine: str, subject: Subject, ours: Running, theirs: Running
) -> dict[str, float]:
    """Differences of all outputs, and the first one's RMS error against float64 by engine."""
    found, wanted = ours.arrays(ours.run()), theirs.arrays(theirs.run())
    result = {"max_difference": 0.0, "rms_difference": 0.0}
    for a, b in zip(found, wanted, strict=False):  # a stream keeps its states to itself
        worst = {"max_difference": float(np.abs(a - b).max()), "rms_difference": rms(a, b)}
        result = {name: max(result[name], worst[name]) for name in result}
        exact = cell.dtype == "float32" and not engine.endswith(("int8", "bfloat16"))
        if not rms(a, b) <= ALLOWED[exact] * max(1.0, float(np.abs(b).max())):
            raise UnavailableError(f"{DIFFER} by {rms(a, b):.2g} (RMS)")
    if subject.module is not None:
        reference = _reference(replace(cell, threads=1, dtype="float32"))
        result["lightrnn_error"] = rms(found[0], reference)
        result["engine_error"] = rms(wanted[0], reference)
        if isinstance(cell, Layer) and cell.dtype.startswith("int") and ours.constants is not None:
            alone = recurrent.rounded(subject, cell.op, ours.constants)
            result["rounding_error"] = rms(alone, reference)
    return result


@lru_cache(maxsize=2)
def _reference(cell: Cell) -> Array:
    """The first output in float64, for cells that differ in threads and storage alone."""
    subject = subject_of(cell)
    assert subject.module is not None
    return evaluated(subject.module(), subject.feeds, subject.layout)[0]


def rms(a: Array, b: Array) -> float:
    """Root of the mean square of a difference."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def interleaved(
    first: Callable[[], object], second: Callable[[], object], seconds: float, *, alone: bool
) -> Array:
    """Seconds of both, float64 [runs, 2], warmed up.

    Runs alternate where each engine computes on the calling thread alone. An engine's other threads
    may spin for a while after a run, on the cores that the next engine is about to use: then turns
    are of several runs, after a pause and a few runs that are not counted. The first turns are not
    either: lightrnn learns in them what its threads are worth.
    """
    rows: list[tuple[float, float]] = []
    learnt = False
    for _ in range(WARM if alone else 0):
        first(), second()
    end = time.perf_counter() + seconds
    while len(rows) < LEAST or (time.perf_counter() < end and len(rows) < MOST):
        if alone:
            rows.append((_seconds(first), _seconds(second)))
            continue
        columns: list[list[float]] = []
        for run in (first, second):
            time.sleep(PAUSE)
            warm = min(_seconds(run) for _ in range(WARM))
            turn = len(columns[0]) if columns else min(max(int(TURN_SECONDS / warm), WARM), TURN)
            columns.append([_seconds(run) for _ in range(turn)])
        if learnt:
            rows.extend(zip(*columns, strict=True))
        learnt = True
    return np.array(rows)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    logging.disable(logging.WARNING)  # what types of weights cost is in the results
    engine, seconds = sys.argv[1], float(sys.argv[2])
    for line in sys.stdin:
        cell = cells.from_json(json.loads(line))
        try:
            result = measure(cell, engine, seconds)
        except UnavailableError as error:
            result = {**cells.to_json(cell), "engine": engine, "refused": str(error)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
