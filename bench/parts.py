"""The parts of a run: which engines measure which cells, each engine in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from bench import metric, selection, start
from bench.cells import Cell, Layer, from_json, to_json
from bench.engines import FEWER_BITS, GENERAL, LIMIT, installed
from bench.results import Result
from bench.share import has_share

Plan = list[tuple[str, list[Cell]]]
"""Engines, each with the cells to measure beside it."""


def plan(part: str, quick: bool, threads: Sequence[int]) -> Plan:
    """What a part measures in pairs of engines; nothing for `metric` and `start`."""
    planned = {
        "layers": _layers, "steps": _steps, "attention": _attention, "models": _models,
        "precision": _precision,
    }  # fmt: skip
    found = planned[part](quick, threads) if part in planned else []
    return [(one, cells) for one, cells in found if one == LIMIT or installed([one])]


def _layers(quick: bool, threads: Sequence[int]) -> Plan:
    cells: list[Cell] = list(selection.layers(quick, threads))
    several = [c for c in cells if c.threads > 1]
    alone: list[Cell] = [c for c in cells if isinstance(c, Layer) and c.batch == 1]
    general = [(engine, cells) for engine in GENERAL]
    bounded: list[Cell] = [c for c in cells if isinstance(c, Layer) and has_share(c)]
    return [*general, ("ncnn", alone), (LIMIT, bounded), ("lightrnn 1 thread", several)]


def _steps(quick: bool, threads: Sequence[int]) -> Plan:
    return [("onnxruntime", list(selection.steps(quick)))]


def _attention(quick: bool, threads: Sequence[int]) -> Plan:
    cells: list[Cell] = list(selection.attention(quick, threads))
    return [(engine, cells) for engine in GENERAL]


def _models(quick: bool, threads: Sequence[int]) -> Plan:
    cells = list(selection.models(quick, threads))
    plain: list[Cell] = [c for c in cells if c.way == "run" and c.dtype == "float32"]
    return [("onnxruntime", list(cells)), ("openvino", plain)]


def _precision(quick: bool, threads: Sequence[int]) -> Plan:
    cells = list(selection.precision(quick))
    alone: list[Cell] = [c for c in cells if c.batch == 1]
    lstm: list[Cell] = [c for c in cells if c.op == "LSTM" and c.batch == 1]
    fewer: list[Cell] = [c for c in cells if c.dtype != "float32"]
    found: Plan = [("onnxruntime", list(cells))]
    found += [(engine, alone) for engine in GENERAL[1:]]
    found += [(engine, lstm if "int8" in engine else list(cells)) for engine in FEWER_BITS]
    return [*found, ("lightrnn float32", fewer)]


def measured(
    part: str, quick: bool, seconds: float, threads: Sequence[int], done: Sequence[Result] = ()
) -> Iterator[Result]:
    """Results as they come. done: those that need not be measured again."""
    for engine, cells in plan(part, quick, threads):
        if left := remaining(engine, cells, done):
            yield from _lines("bench.pair", engine, str(seconds), cells=left)
    if part == "steps":
        yield from _lines("bench.surroundings")
    elif part == "metric":
        yield from metric.results(quick)
    elif part == "start":
        yield from start.results(quick)


def remaining(engine: str, cells: Sequence[Cell], done: Sequence[Result]) -> list[Cell]:
    """The cells that have no result beside this engine."""
    have = {from_json(dict(r)) for r in done if r.get("engine") == engine}
    return [cell for cell in cells if cell not in have]


def usable_threads() -> tuple[int, ...]:
    """1, and 2 where there are as many cores."""
    return (1, 2) if len(os.sched_getaffinity(0)) > 1 else (1,)


def _lines(module: str, *args: str, cells: Sequence[Cell] = ()) -> Iterator[Result]:
    """What a module of ours prints, a result a line."""
    command = [sys.executable, "-W", "ignore", "-m", module, *args]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(json.dumps(to_json(cell)) + "\n" for cell in cells))
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
