"""The machine and the versions of what is compared."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lightrnn", "numpy", "numba", "onnxruntime", "torch", "openvino", "ncnn")
EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
"""What engines choose their code by, as Linux names it."""


def describe() -> dict[str, Any]:
    """Names and versions; cores that may be used; bytes of a core's caches."""
    found: dict[str, Any] = {
        "cpu": _cpuinfo("model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "caches": caches(),
        "extensions": [e for e in EXTENSIONS if e in _cpuinfo("flags").split()],
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def caches() -> dict[str, int]:
    """Bytes of the data caches that the first core sees, by level: L1, L2, L3."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (
            (folder / name).read_text().strip() for name in ("type", "level", "size")
        )
        if kind != "Instruction":
            found[f"L{level}"] = int(size.removesuffix("K")) * 1024
    return found


def folder_name(machine: dict[str, Any]) -> str:
    """A name for the results of this machine."""
    words = re.sub(r"\(.*?\)|@.*|CPU|Processor", " ", machine["cpu"])
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"{slug or 'cpu'}-{machine['cores']}-cores"


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""
