"""The identity of the kernel sources: a library is only used with the sources it was built from."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def source_files() -> list[Path]:
    """The files that machine code depends on; empty where only a library is installed."""
    kernels = sorted((_PACKAGE / "kernels").glob("*.py"))
    return [*kernels, _PACKAGE / "native" / "abi.py", _PACKAGE / "native" / "build.py"]


def source_hash() -> str:
    """Hash of the kernel sources, the ABI and the builder, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in source_files():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]
