"""Cold start and installed size against onnxruntime: `python -m bench.cold_start`.

Each run is a fresh process that imports the engine, loads an LSTM of 64 units and computes 20
steps. The engines' runs are interleaved. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.models import lstm_onnx

LIGHTRNN = """
import sys, numpy as np, lightrnn
model = lightrnn.load(sys.argv[1])
y = model.run({"x": np.ones((20, 1, 64), np.float32)})["y"]
assert y.shape == (20, 1, 1, 64)
"""
ONNXRUNTIME = """
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
y = session.run(None, {"x": np.ones((20, 1, 64), np.float32)})[0]
assert y.shape == (20, 1, 1, 64)
"""
NUMPY = "import numpy"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""Compiled modules are cached, as those of installed packages are."""


def seconds(code: str, *args: str) -> float:
    """Wall time of a fresh interpreter that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *args], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def installed_bytes(package: str) -> int:
    """Size of a distribution's files on disk, its dependencies apart."""
    files = importlib.metadata.files(package) or []
    return sum(path.stat().st_size for f in files if (path := Path(str(f.locate()))).is_file())


def source_bytes() -> int:
    """Size of the runtime as it lies in this tree, for editable installs."""
    import lightrnn

    root = Path(lightrnn.__file__).parent
    return sum(p.stat().st_size for p in root.rglob("*") if p.suffix in (".py", ".so", ".typed"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    from lightrnn_converters import convert_onnx

    with tempfile.TemporaryDirectory() as folder:
        onnx_file, own_file = Path(folder) / "m.onnx", Path(folder) / "m.lrnn"
        onnx_file.write_bytes(lstm_onnx(64))
        convert_onnx(onnx_file, own_file)
        engines = {
            "lightrnn": (LIGHTRNN, str(own_file)),
            "onnxruntime": (ONNXRUNTIME, str(onnx_file)),
            "numpy alone": (NUMPY,),
        }
        times: dict[str, list[float]] = {name: [] for name in engines}
        for k in range(runs + 1):
            for name, call in engines.items():
                spent = seconds(*call)
                if k:
                    times[name].append(spent)
    ratio = statistics.median(
        a / b for a, b in zip(times["lightrnn"], times["onnxruntime"], strict=True)
    )
    sizes = {
        "lightrnn": max(installed_bytes("lightrnn"), source_bytes()),
        "onnxruntime": installed_bytes("onnxruntime"),
        "numpy alone": installed_bytes("numpy"),
    }
    print("| | installed, MB | process start to first result, ms |")
    print("| --- | --- | --- |")
    for name, values in times.items():
        print(f"| {name} | {sizes[name] / 1e6:.1f} | {np.median(values) * 1e3:.0f} |")
    print(f"\nlightrnn / onnxruntime, median of {runs} interleaved pairs: {ratio:.2f}")


if __name__ == "__main__":
    main()
