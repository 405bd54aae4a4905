"""`lightrnn build-kernels`: compile the kernel library for this user."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from typing import TYPE_CHECKING

from lightrnn.cli.arguments import command
from lightrnn.cli.output import say

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers


def add(subparsers: Subparsers) -> None:
    command(subparsers, "build-kernels", "compile the kernels into your cache", run)


def run(args: argparse.Namespace) -> int:
    import logging

    from lightrnn.errors import NativeError
    from lightrnn.native import library

    _check_possible()
    path = library.cached_path()
    if path is None:
        raise NativeError("no folder to put the kernels in: set HOME or XDG_CACHE_HOME")
    if sys.stderr.isatty():
        print("compiling; this takes some minutes", file=sys.stderr)
    level = _build(path)
    say(f"{path}: x86-64-{level}" if level else f"{path}: nothing that this CPU runs")
    if os.path.exists(library.PACKAGED):
        logging.getLogger("lightrnn").warning(
            "%s came with lightrnn and is loaded instead", library.PACKAGED
        )
    return 0


def _check_possible() -> None:
    """Raise NativeError where kernels cannot be built."""
    from lightrnn.errors import NativeError

    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise NativeError(f"kernels are for Linux on x86-64, this is {system} on {machine}")
    if importlib.util.find_spec("numba") is None:
        raise NativeError("numba is not installed: pip install 'lightrnn[kernels]'")


def _build(path: str) -> str | None:
    """Build the library in a folder that only we can write; the level that this CPU gets."""
    from lightrnn.errors import NativeError
    from lightrnn.native import build, library

    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    try:
        build.build(path)
    except ImportError as error:
        raise NativeError(f"{error}: pip install 'lightrnn[kernels]'") from error
    os.chmod(path, 0o700)
    found = library.open_library(path)
    return None if found is None else found.level
