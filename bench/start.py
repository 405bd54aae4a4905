"""Fresh processes: time to the first result, peak memory, sizes of files and packages.

A process imports one engine, loads one model and runs it once, on one thread and one core; the
engines take turns. Each process says itself how much memory it held at most (VmHWM).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cells import Cell, Layer, Whole
from bench.engines import installed
from bench.pair import subject_of
from bench.subject import Subject

HEAD = """
import json, sys
import numpy as np
feeds = {name: np.full(shape, fill, dtype)
         for name, (shape, dtype, fill) in json.loads(sys.argv[2]).items()}
"""
ENGINES = {
    "lightrnn": """
import lightrnn
found = lightrnn.load(sys.argv[1], threads=1).run(feeds)
""",
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
found = onnxruntime.InferenceSession(
    sys.argv[1], options, providers=["CPUExecutionProvider"]).run(None, feeds)
""",
    "openvino": """
import openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_NUM_THREADS": 1})
found = model.create_infer_request().infer(feeds)
""",
    "numpy": "found = feeds\n",
}
TAIL = """
assert len(found) > 0
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(line.split()[1]) * 1024)
"""
MODELS: dict[str, Cell] = {
    "LSTM of 64 units, 20 steps": Layer("LSTM", 64, 1, 20),
    "LSTM of 512 units, 20 steps": Layer("LSTM", 512, 1, 20),
    "language identifier": Whole("language identifier", 1, 20),
    "audio stream": Whole("audio stream", 1, 576, "states"),
}
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""Compiled modules are cached, as those of installed packages are."""


def results(quick: bool) -> Iterator[dict[str, Any]]:
    """A result for each model and engine."""
    models = list(MODELS)[:3:2] if quick else list(MODELS)
    for name in models:
        with tempfile.TemporaryDirectory() as folder:
            yield from _of_model(name, subject_of(MODELS[name]), Path(folder), 3 if quick else 11)


def _of_model(name: str, subject: Subject, folder: Path, runs: int) -> Iterator[dict[str, Any]]:
    files = _files(subject, folder)
    feeds = json.dumps({
        n: (a.shape, str(a.dtype), a.flat[0].item() if a.dtype.kind == "i" else 0.5)
        for n, a in subject.feeds.items()
    })  # fmt: skip
    times: dict[str, list[float]] = {engine: [] for engine in files}
    peaks: dict[str, list[int]] = {engine: [] for engine in files}
    for k in range(runs + 1):
        for engine, file in files.items():
            spent, peak = _fresh(ENGINES[engine], str(file), feeds)
            if k:
                times[engine].append(spent)
                peaks[engine].append(peak)
    for engine, file in files.items():
        paired = zip(times[engine], times["lightrnn"], strict=True)
        yield {
            "cell": "Start", "model": name, "engine": engine, "runs": runs,
            "first_ms": statistics.median(times[engine]) * 1e3,
            "of_lightrnn": statistics.median(a / b for a, b in paired),
            "peak_bytes": int(statistics.median(peaks[engine])),
            "file_bytes": file.stat().st_size if file.exists() else 0,
            "installed_bytes": installed_bytes(engine),
        }  # fmt: skip


def _files(subject: Subject, folder: Path) -> dict[str, Path]:
    """The model's file for each engine that is here; NumPy has none."""
    from lightrnn_converters import convert_onnx

    source, target = folder / "model.onnx", folder / "model.lrnn"
    source.write_bytes(subject.source)
    convert_onnx(source, target, states=dict(subject.carried), verify=False)
    found: dict[str, Path] = {"lightrnn": target}
    found |= dict.fromkeys(installed(("onnxruntime", "openvino")), source)
    return {**found, "numpy": folder / "none"}


def _fresh(code: str, *args: str) -> tuple[float, int]:
    """Wall time of a fresh interpreter that runs `code`, pinned to a core; its peak memory."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        start = time.perf_counter()
        found = subprocess.run(
            [sys.executable, "-c", HEAD + code + TAIL, *args],
            check=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return time.perf_counter() - start, int(found.stdout.split()[-1])
    finally:
        os.sched_setaffinity(0, allowed)


def installed_bytes(package: str) -> int:
    """Size of a distribution's files on disk, its dependencies apart."""
    if package == "lightrnn":
        return _source_bytes()
    files = importlib.metadata.files(package) or []
    return sum(path.stat().st_size for f in files if (path := Path(str(f.locate()))).is_file())


def _source_bytes() -> int:
    """The runtime and its kernels as they lie here, installed or not."""
    import lightrnn

    root = Path(lightrnn.__file__).parent
    return sum(p.stat().st_size for p in root.rglob("*") if p.suffix in (".py", ".so", ".typed"))
