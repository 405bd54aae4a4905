"""Latency of one LSTM step against onnxruntime: `python -m bench.step`.

One layer, batch 1, x in and Y out, through `Model.run` and `InferenceSession.run`, one thread, runs
interleaved. Also the p90 of a step while another Python thread is busy, and what a shape that was
not seen before costs the language identification example. Prints Markdown.
"""

from __future__ import annotations

import io
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

import lightrnn
from bench.models import lstm_onnx

SIZES = (16, 64, 128, 256)


def interleaved(
    calls: list[Callable[[], object]], rounds: int = 3000, warm: int = 100
) -> list[list[float]]:
    """Seconds of every call, the calls taking turns."""
    times: list[list[float]] = [[] for _ in calls]
    for k in range(rounds + warm):
        for call, mine in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if k >= warm:
                mine.append(time.perf_counter() - start)
    return times


def engines(hidden: int) -> tuple[lightrnn.Model, ort.InferenceSession]:
    """The same layer in both engines, one thread each."""
    from lightrnn_converters import convert_onnx

    source, target = lstm_onnx(hidden), io.BytesIO()
    convert_onnx(source, target)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return lightrnn.load(target.getvalue(), threads=1), session


def compared(hidden: int) -> tuple[list[float], list[float]]:
    """Seconds of steps of both engines, their results compared first."""
    model, session = engines(hidden)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 1, hidden)).astype(np.float32)}
    np.testing.assert_allclose(model.run(feeds)["y"], session.run(None, feeds)[0], atol=1e-5)
    ours, theirs = interleaved([lambda: model.run(feeds), lambda: session.run(None, feeds)])
    return ours, theirs


def step_table() -> None:
    print("| hidden | lightrnn, µs | onnxruntime, µs | lightrnn / onnxruntime |")
    print("| --- | --- | --- | --- |")
    for hidden in SIZES:
        ours, theirs = compared(hidden)
        a, b = statistics.median(ours) * 1e6, statistics.median(theirs) * 1e6
        ratio = statistics.median(x / y for x, y in zip(ours, theirs, strict=True))
        print(f"| {hidden} | {a:.1f} | {b:.1f} | {ratio:.2f} |")


def busy_p90() -> None:
    """p90 of a step, idle and with another Python thread computing."""
    model, _ = engines(64)
    feeds = {"x": np.ones((1, 1, 64), np.float32)}

    def p90() -> float:
        (times,) = interleaved([lambda: model.run(feeds)], 5000)
        return float(np.percentile(times, 90)) * 1e6

    idle = p90()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(100))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        busy = p90()
    finally:
        stop.set()
        thread.join()
    print(f"p90 of a step of 64 units: idle {idle:.1f} µs, another thread busy {busy:.1f} µs")


def new_shape_cost() -> None:
    """The example model at shapes not seen before, and at the same shapes again."""
    model = lightrnn.load(Path(__file__).parents[1] / "examples/langid/langid.lrnn", threads=1)
    rng = np.random.default_rng(2)
    extra = []
    for steps in rng.permutation(np.arange(1, 61)):
        ids = rng.integers(2, 500, (1, int(steps)))
        feeds = {"ids": ids, "lengths": np.array([steps])}
        run = partial(model.run, feeds)
        (new,), (seen,) = (interleaved([run], 1, 0) for _ in range(2))
        extra.append(new[0] - seen[0])
    print(f"a new shape of the example model: {statistics.median(extra) * 1e3:.2f} ms more")


if __name__ == "__main__":
    step_table()
    print()
    busy_p90()
    new_shape_cost()
