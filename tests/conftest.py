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
    # Read, not loaded: a process that has loaded one library gets it again under the same name.
    built = Path(library.PACKAGED)
    if built.exists() and source_hash().encode() in built.read_bytes():
        return
    from lightrnn.native import build

    build.build(library.PACKAGED)
