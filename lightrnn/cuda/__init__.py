"""Models on an NVIDIA GPU: `lightrnn.load(path, device="cuda")`.

DeviceArray is what a run gives where an input lies on the GPU.
"""

from __future__ import annotations

from lightrnn.cuda.array import DeviceArray

__all__ = ["DeviceArray"]
