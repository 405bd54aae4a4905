"""Latency where it is not ideal: `python -m bench.surroundings` prints results as JSON lines.

The p90 of a run while another Python thread computes, beside the idle figure; and what a shape that
was not seen before costs the language identifier.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from bench import recurrent
from bench.cells import Layer, to_json
from bench.engines import lightrnn
from bench.wholes import EXAMPLES

CELLS = (
    Layer("LSTM", 64, 1, 1), Layer("LSTM", 64, 1, 100), Layer("LSTM", 256, 1, 100),
    Layer("LSTM", 256, 1, 100, threads=2),
)  # fmt: skip


def results() -> Iterator[dict[str, Any]]:
    """One result for each cell, one for new shapes."""
    for cell in CELLS:
        run = lightrnn(recurrent.layer(cell), cell.threads, cell.dtype).run
        run()
        _, idle = latency(run)
        with busy_thread():
            median, busy = latency(run)
        found = {"idle_p90_us": idle, "busy_p50_us": median, "busy_p90_us": busy}
        yield {**to_json(cell), "cell": "Busy", **found}
    yield {"cell": "New shape", "more_ms": new_shape()}


def latency(run: Callable[[], object], seconds: float = 1.0) -> tuple[float, float]:
    """Microseconds that half of the runs, and nine in ten, stay below."""
    times, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        run()
        times.append(time.perf_counter() - start)
    half, most = np.percentile(times, [50, 90]) * 1e6
    return float(half), float(most)


@contextmanager
def busy_thread() -> Iterator[None]:
    """A Python thread that computes and never waits."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(100))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def new_shape() -> float:
    """Milliseconds that the first run at a length takes more than the second, at the median."""
    from lightrnn.model import load

    model = load(EXAMPLES / "langid" / "langid.lrnn", threads=1)
    rng, extra = np.random.default_rng(2), []
    for steps in rng.permutation(np.arange(1, 61)):
        ids = rng.integers(2, 500, (1, int(steps)))
        run = partial(model.run, {"ids": ids, "lengths": np.array([steps])})
        times = []
        for _ in range(2):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        extra.append(times[0] - times[1])
    return statistics.median(extra) * 1e3


if __name__ == "__main__":
    for result in results():
        print(json.dumps(result), flush=True)
