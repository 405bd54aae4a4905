"""`lightrnn build-kernels`: compile the kernel library, or GPU kernels, for this user."""

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
    parser = command(subparsers, "build-kernels", "compile the kernels into your cache", run)
    parser.add_argument("--cuda", action="store_true", help="those for GPUs; needs no GPU")


def run(args: argparse.Namespace) -> int:
    if args.cuda:
        _run_cuda()
    else:
        _run_cpu()
    return 0


def _run_cpu() -> None:
    from lightrnn.native import library

    _check_possible()
    path = _place(library.cached_path())
    level = _build(path)
    say(f"{path}: x86-64-{level}" if level else f"{path}: nothing that this CPU runs")
    _warn_of(library.PACKAGED)


def _run_cuda() -> None:
    from lightrnn.cuda import build, image

    build.check_toolkit()
    path = _place(image.cached_path())
    _make_private(os.path.dirname(path))
    build.build(path)
    os.chmod(path, 0o600)
    say(f"{path}: {', '.join(f'sm_{a}{b}' for a, b in image.Images(path).targets)} and PTX")
    _warn_of(image.PACKAGED)


def _place(path: str | None) -> str:
    """Where to put kernels, once it is said that they are being made."""
    from lightrnn.errors import NativeError

    if path is None:
        raise NativeError("no folder to put the kernels in: set HOME or XDG_CACHE_HOME")
    if sys.stderr.isatty():
        print("compiling; this takes some minutes", file=sys.stderr)
    return path


def _warn_of(packaged: str) -> None:
    import logging

    if os.path.exists(packaged):
        log = logging.getLogger("lightrnn")
        log.warning("%s came with lightrnn and is loaded instead", packaged)


def _make_private(folder: str) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)


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

    _make_private(os.path.dirname(path))
    try:
        build.build(path)
    except ImportError as error:
        raise NativeError(f"{error}: pip install 'lightrnn[kernels]'") from error
    os.chmod(path, 0o700)
    found = library.open_library(path)
    return None if found is None else found.level
