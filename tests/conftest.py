"""The kernel library under test is always built from the sources beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightrnn.native import library
from lightrnn.native.sources import source_hash


def pytest_configure(config: pytest.Config) -> None:
    """Rebuild the library where the sources have changed since it was built."""
    if os.environ.get("LIGHTRNN_NATIVE", "1") == "0":
        return
    packaged = Path(library.PACKAGED)
    # Not by loading it: a process that has loaded a library gets it again after it was rebuilt.
    if packaged.exists() and source_hash().encode() in packaged.read_bytes():
        return
    from lightrnn.native import build

    build.build(packaged)
