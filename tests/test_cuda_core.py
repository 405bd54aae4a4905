"""What is installed as cuda.core takes what the device asks it for, over a stub of a driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator.build import build
from tests.emulator.process import run_python, skip_where_it_cannot_be_built

CODE = """
from types import SimpleNamespace
import gc
import numpy as np
import lightrnn
from lightrnn.cuda import device
from lightrnn.format import ModelFile, dumps
from tests.cuda_graphs import Interface, stepping
from tests.test_engine import recurrent_graph, sequence

kernels = SimpleNamespace(code=lambda symbol: (b"code", "cubin"))
device.find_image = lambda capability: kernels
model = lightrnn.load(dumps(ModelFile({"main": recurrent_graph("LSTM", 512)})), device="cuda")
for _ in range(3):
    model(sequence(8, 2, 512))
print("on streams")
x = Interface(sequence(8, 2, 512))
for stream in (0, 2, model(x).stream.handle):
    found = model(x, stream=stream)
    found.__dlpack__(stream=1)
try:
    model(np.zeros((4000, 200, 512), np.float32))
except lightrnn.errors.DeviceMemoryError as error:
    print(error)
print("in pieces")
stream = lightrnn.load(dumps(ModelFile({"main": stepping()})), device="cuda").stream()
for k in range(4):
    print("step")
    stream.step({"ids": np.array([[k]])})
print("step")
del model, stream, found
gc.collect()
print("done")
"""


def test_cuda_core_takes_what_the_device_asks_for(tmp_path: Path) -> None:
    skip_where_it_cannot_be_built()
    pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    done = run_python(build(tmp_path, {}, ["-DSAYS"]), CODE)
    first, rest = done.stdout.split("on streams")
    streams, pieces = rest.split("in pieces")
    assert "stub: attribute 8 is " in first  # more shared memory than a kernel has unasked
    assert ", together" in first
    assert (first.count("stub: capture"), first.count("stub: graph on")) == (1, 2)
    assert "GPU 0 (Stub) is out of memory, 1,000 of 2,000 bytes free" in streams
    assert "stub: 1 waits" in streams
    last = [line for line in pieces.split("step\n")[-2].splitlines() if "stub" in line]
    assert [line.split()[1] for line in last] == ["graph", "copy"]
    assert done.stdout.endswith("done\n")
