"""The kernel library under test is always built from the sources beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightrnn.errors import NativeError
from lightrnn.native import library


def pytest_configure(config: pytest.Config) -> None:
    """Rebuild the library where the sources have changed since it was built."""
    if os.environ.get("LIGHTRNN_NATIVE", "1") == "0":
        return
    try:
        if Path(library.PACKAGED).exists():
            library.open_library(library.PACKAGED)
            return
    except NativeError:
        pass
    from lightrnn.native import build

    build.build(library.PACKAGED)
