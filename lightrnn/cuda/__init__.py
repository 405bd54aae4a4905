"""The GPU backend: plans of the engine, run by kernels compiled ahead of time for NVIDIA GPUs.

`lightrnn.load(path, device="cuda")` uses it. DeviceArray is what a run gives where an input lies on
the GPU.
"""

from __future__ import annotations

from lightrnn.cuda.array import DeviceArray

__all__ = ["DeviceArray"]
