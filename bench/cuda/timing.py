"""Times of layers on the GPU against torch.nn, which runs cuDNN, by device events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

import lightrnn
from bench.cuda.models import GATES, layer_file
from lightrnn.cuda.executor import CudaExecutor

ROUNDS = 5


@dataclass(frozen=True)
class Cell:
    """Layers one upon the other, the input as wide as their state.

    dtype: of the weights; torch's are all of it.
    """

    op: str
    hidden: int
    batch: int
    steps: int
    dtype: str = "float32"
    layers: int = 1

    def __str__(self) -> str:
        size = f"H {self.hidden} L {self.layers} N {self.batch} T {self.steps}"
        return f"{self.op} {size} {self.dtype}"

    @property
    def multiplies(self) -> int:
        """Multiply-adds of a run: input and recurrent products."""
        return 2 * GATES[self.op] * self.hidden**2 * self.batch * self.steps * self.layers

    @property
    def nbytes(self) -> int:
        """What a run must move at least: the weights once, x, and y."""
        item = 4 if self.dtype == "float32" else 2
        weights = 2 * GATES[self.op] * self.hidden**2 * item * self.layers
        return weights + 8 * self.steps * self.batch * self.hidden


def cells() -> list[Cell]:
    """All cells, those that the project promises something of first."""
    promised = [Cell("LSTM", h, n, 512) for n in (1, 32) for h in (256, 512, 1024)]
    stacks = [Cell(op, h, 1, 512, layers=2) for op in ("LSTM", "GRU") for h in (256, 512)]
    every = [
        Cell(op, h, n, t, dtype)
        for dtype in ("float32", "float16")
        for t in (512, 64, 1)
        for op in ("LSTM", "GRU", "RNN")
        for n in (1, 32, 8, 128)
        for h in (256, 1024, 512, 128, 2048)
    ]
    return list(dict.fromkeys([*promised, *stacks, *every]))


def limits() -> dict[str, float]:
    """What the GPU does at most: float32 multiply-adds and bytes of its memory, a second."""
    from cuda.core import Device

    properties = Device(0).properties
    lanes = 128 * properties.multiprocessor_count
    return {
        "multiply-adds": lanes * properties.clock_rate * 1e3,
        "bytes": 2 * properties.memory_clock_rate * 1e3 * properties.global_memory_bus_width / 8,
    }


def measure(cell: Cell, rates: dict[str, float]) -> dict[str, Any]:
    """Microseconds of a run of ours and of torch's, and our share of the limit."""
    ours = _ours(cell)
    theirs = _torch(cell)
    least = max(cell.multiplies / rates["multiply-adds"], cell.nbytes / rates["bytes"]) * 1e6
    ratio = None if theirs is None else theirs / ours
    return {**asdict(cell), "us": ours, "torch_us": theirs, "ratio": ratio, "share": least / ours}


def _ours(cell: Cell) -> float:
    from cuda.bindings import driver

    content = layer_file(cell.op, cell.hidden, cell.dtype, layers=cell.layers)
    model = lightrnn.load(content, device="cuda")
    executor = model._executor
    assert isinstance(executor, CudaExecutor)
    device: Any = executor.device
    device.activate()
    x, stream = executor.uploaded(_input(cell)), device.stream()
    first, last = (device.checked(driver.cuEventCreate(0)) for _ in range(2))

    def timed(count: int) -> float:
        device.checked(driver.cuEventRecord(first, stream.handle))
        for _ in range(count):
            model.run({"x": x}, stream=stream.handle)
        device.checked(driver.cuEventRecord(last, stream.handle))
        device.checked(driver.cuEventSynchronize(last))
        return float(device.checked(driver.cuEventElapsedTime(first, last))) * 1e3 / count

    return _settled(timed)


def _torch(cell: Cell) -> float | None:
    """None where torch is not installed, or has no GPU."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    dtype = getattr(torch, cell.dtype)
    layer = getattr(torch.nn, cell.op)(cell.hidden, cell.hidden, cell.layers)
    layer = layer.to("cuda", dtype).eval()
    x = torch.from_numpy(_input(cell)).to("cuda", dtype)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def timed(count: int) -> float:
        with torch.inference_mode():
            first.record()
            for _ in range(count):
                layer(x)
            last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) * 1e3 / count

    return _settled(timed)


def _input(cell: Cell) -> Any:
    shape = (cell.steps, cell.batch, cell.hidden)
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _settled(timed: Callable[[int], float]) -> float:
    """The median of rounds of some ten milliseconds, after a warm-up."""
    timed(3)
    count = int(np.clip(10_000 / max(timed(3), 1.0), 1, 300))
    return statistics.median(timed(count) for _ in range(ROUNDS))


def step_times(hidden: int) -> dict[str, Any]:
    """Microseconds of one streamed step of an LSTM, array in to array out, on the host."""
    stream = lightrnn.load(layer_file("LSTM", hidden), device="cuda").stream()
    x = np.ones((1, 1, hidden), np.float32)
    times = []
    for _ in range(3000):
        start = time.perf_counter()
        stream.step({"x": x})
        times.append((time.perf_counter() - start) * 1e6)
    low, middle, high = np.percentile(times[200:], (10, 50, 90))
    return {"hidden": hidden, "p10": low, "p50": middle, "p90": high}


def tasks() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Everything that is timed by name, in order."""
    rates = limits()
    for hidden in (256, 512, 1024):
        yield f"streamed step, H {hidden}", partial(_step, hidden)
    for cell in cells():
        yield str(cell), partial(_cell, cell, rates)


def _step(hidden: int) -> dict[str, Any]:
    return {"step": step_times(hidden)}


def _cell(cell: Cell, rates: dict[str, float]) -> dict[str, Any]:
    return {"cell": measure(cell, rates)}
