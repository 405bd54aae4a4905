"""Which sources a library was built from, and whether it is whole: no other is used."""

from __future__ import annotations

import os
import zlib

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def source_files() -> list[str]:
    """Paths of the files that machine code depends on."""
    kernels = os.path.join(_PACKAGE, "kernels")
    names = sorted(name for name in os.listdir(kernels) if name.endswith(".py"))
    native = [os.path.join(_PACKAGE, "native", name) for name in ("abi.py", "build.py")]
    return [*(os.path.join(kernels, name) for name in names), *native]


def source_hash() -> str:
    """Checksum of the kernel sources, the ABI and the builder, as hexadecimal digits.

    It tells a stale library, not a forged one; a cryptographic hash would cost each start 3 ms.
    """
    total, size = 0, 0
    for path in source_files():
        with open(path, "rb") as file:
            data = os.path.basename(path).encode() + b"\0" + file.read() + b"\0"
        total, size = zlib.crc32(data, total), size + len(data)
    return f"{total:08x}{size:08x}"


def checksum(data: bytes | memoryview) -> bytes:
    """What follows a library's own bytes in its file, so that a damaged one is known."""
    return zlib.crc32(data).to_bytes(4, "little")
