"""`lightrnn bench`: how long a run takes, and how long onnxruntime takes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from lightrnn.cli.arguments import UsageError, by_name, command, positive, shape_pair
from lightrnn.cli.output import say

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers
    from lightrnn.graph import Array
    from lightrnn.model import Model

Call = Callable[[], object]

TURN = 10
"""Runs of one engine before the other's turn; one more goes before them, unmeasured."""


def add(subparsers: Subparsers) -> None:
    parser = command(subparsers, "bench", "time a model, beside onnxruntime if you like", run)
    parser.add_argument("model", metavar="MODEL", help="a .lrnn file")
    parser.add_argument("--against", metavar="REFERENCE", help="the .onnx file it came from")
    parser.add_argument("--npz", metavar="IN.npz", help="inputs; random ones by default")
    parser.add_argument(
        "--shape", type=shape_pair, nargs="+", action="extend", metavar="NAME=SHAPE",
        help="shapes of random inputs, such as x=2x5x64; free sizes are 16 by default",
    )  # fmt: skip
    parser.add_argument("--threads", type=positive, metavar="N", help="by default all cores")
    parser.add_argument(
        "--runs", type=positive, metavar="N", default=200, help="measured runs; 200 by default"
    )


def run(args: argparse.Namespace) -> int:
    from lightrnn.cli import frontends
    from lightrnn.engine.team import default_threads
    from lightrnn.errors import VerificationError
    from lightrnn.model import load

    threads = args.threads or default_threads()
    model = load(args.model, threads=threads)
    feeds = _feeds(args, model)
    own = feeds
    if args.against is not None:  # which may take inputs that the conversion bound
        own = {spec.name: feeds[spec.name] for spec in model.inputs if spec.name in feeds}
    calls: dict[str, Call] = {"lightrnn": partial(model.run, own)}
    calls["lightrnn"]()
    agrees = True
    if args.against is not None:
        report = frontends.find(frontends.VERIFIERS, "onnx")(model, args.against, feeds)
        agrees = report.passed
        say(report)
        reference = frontends.find(frontends.REFERENCES, "onnx")
        calls["onnxruntime"] = reference(args.against, feeds, threads)
    say("\n".join(_lines(own, threads, measure(calls, args.runs))))
    if not agrees:
        raise VerificationError(f"{args.model} differs from {args.against}")
    return 0


def _feeds(args: argparse.Namespace, model: Model) -> Mapping[str, Array]:
    """The inputs asked for. Raises UsageError for shapes that are not those of inputs."""
    from lightrnn.cli import frontends
    from lightrnn.cli.arrays import read_arrays

    shapes = by_name(args.shape or (), "shape")
    if args.npz is not None:
        if shapes:
            raise UsageError("--npz and --shape do not go together")
        return read_arrays(args.npz)
    names = [spec.name for spec in model.inputs]
    if unknown := [name for name in shapes if name not in names]:
        raise UsageError(f"--shape: no input {unknown[0]!r}, the model has {', '.join(names)}")
    make = frontends.find(frontends.INPUTS, "random")
    feeds: Mapping[str, Array] = make(model.graph(model.graphs[0]), shapes)
    return feeds


def measure(calls: Mapping[str, Call], runs: int) -> dict[str, list[float]]:
    """Seconds of `runs` runs of each call; calls take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for start in range(0, runs, TURN):
        for name, call in calls.items():
            call()
            for _ in range(min(TURN, runs - start)):
                before = time.perf_counter_ns()
                call()
                times[name].append((time.perf_counter_ns() - before) * 1e-9)
    return times


def _lines(
    feeds: Mapping[str, Array], threads: int, times: Mapping[str, list[float]]
) -> Iterator[str]:
    """The table: what was run, then median and p90 of each engine, then their ratios."""
    import numpy as np

    for name, array in feeds.items():
        shape = "x".join(map(str, array.shape)) or "scalar"
        yield f"{f'input {name}':<20} {array.dtype.name:<8} {shape}"
    runs = len(times["lightrnn"])
    yield f"{f'{runs} runs, {threads} threads':<20} {'median':>12} {'p90':>12}"
    points = {name: np.percentile(taken, (50, 90)) for name, taken in times.items()}
    for name, (median, p90) in points.items():
        yield f"{name:<20} {_duration(median):>12} {_duration(p90):>12}"
    if len(points) == 2:
        median, p90 = points["lightrnn"] / points["onnxruntime"]
        yield f"{'ratio':<20} {median:>12.2f} {p90:>12.2f}"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
