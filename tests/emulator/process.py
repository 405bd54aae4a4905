"""Python processes that find the emulated GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT


def skip_where_it_cannot_be_built() -> None:
    if shutil.which("cc") is None or sys.platform != "linux":
        pytest.skip("no C compiler for the emulated GPU")


def run_python(driver: Path, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """What a process over a driver, libcuda.so.1, did with `code`; it must end with status 0."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env={**os.environ, "LD_LIBRARY_PATH": str(driver.parent), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
