"""What the machine can do: multiply-adds a second, and bytes a second from each level of cache."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("lightrnn", "numpy", "numba", "onnxruntime", "torch", "openvino", "ncnn")


def describe() -> dict[str, str]:
    """The machine and the versions of what is compared."""
    found = {"cpu": _cpu(), "system": platform.platform(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _best(run: Callable[[], object], times: int = 15) -> float:
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return min(spent)


def peak_gflops() -> float:
    """Floating-point operations a second of one core, in units of 1e9: our own product at 512³."""
    from bench.kernels import gemm

    run = gemm(256, 512, 512)
    return 2 * 256 * 512 * 512 / _best(run) / 1e9


def bandwidth(nbytes: int) -> float:
    """Bytes a second, in units of 1e9, that one core reads from a matrix of this size."""
    from bench.kernels import gemm

    columns = max(nbytes // 4 // 512 // 16, 1) * 16
    run = gemm(1, 512, columns)
    rounds = max(1, 2**24 // nbytes)

    def repeat() -> None:
        for _ in range(rounds):
            run()

    return rounds * 512 * columns * 4 / _best(repeat, 7) / 1e9


LEVELS = {"16 KiB": 2**14, "256 KiB": 2**18, "2 MiB": 2**21, "16 MiB": 2**24, "128 MiB": 2**27}


def measured() -> dict[str, float]:
    """Peak and bandwidths by name."""
    found = {"peak, GFLOP/s": peak_gflops()}
    for name, nbytes in LEVELS.items():
        found[f"reading {name}, GB/s"] = bandwidth(nbytes)
    return found
