"""`lightrnn doctor`: what this machine runs on, and why."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from lightrnn.cli.arguments import command
from lightrnn.cli.output import say

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers

_V3 = {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_BF16 = _V4 | {"avx512_vnni", "avx512_bf16"}
_NEEDED = {
    "v4amx": _BF16 | {"amx_tile", "amx_int8", "amx_bf16"},
    "v4bf16": _BF16,
    "v4vnni": _V4 | {"avx512_vnni"},
    "v4": _V4,
    "v3": _V3,
}


def add(subparsers: Subparsers) -> None:
    command(subparsers, "doctor", "show which kernels this machine runs, and why", run)


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from lightrnn import __version__
    from lightrnn.engine.team import default_threads
    from lightrnn.errors import InputError, NativeError

    say(f"lightrnn  {__version__}")
    say(f"Python    {platform.python_version()} ({platform.python_implementation()})")
    say(f"numpy     {np.__version__}")
    say(f"platform  {platform.platform()}")
    say(f"CPU       {cpu_level()}")
    status = 0
    try:
        say(f"kernels   {_kernels()}")
    except NativeError as error:
        say(f"kernels   refused: {error}")
        status = 1
    try:
        say(f"threads   {default_threads()}")
    except InputError as error:
        say(f"threads   {error}")
        status = 1
    try:
        say(f"GPU       {_gpu()}")
    except NativeError as error:
        say(f"GPU       refused: {error}")
        status = 1
    return status


def _gpu() -> str:
    """The GPU that models can run on, and its kernels. Raises NativeError as `_kernels` does."""
    from lightrnn.cuda.device import open_device
    from lightrnn.errors import DeviceError

    try:
        found = open_device(0)
    except DeviceError as error:
        return f"not used: {error}"
    return f"{found.name}, kernels from {found.image.images.path}"


def _kernels() -> str:
    """Which kernels run. Raises NativeError where there is a library that may not be used."""
    from lightrnn.native import library

    found = library.load()
    if found is not None:
        where = "packaged" if found.path == library.PACKAGED else "cached"
        return f"x86-64-{found.level}, from the {where} library {found.path}"
    return f"NumPy semantics, which are slow: {_reason()}"


def _reason() -> str:
    """Why there is no library."""
    from lightrnn.native import library

    if not library.is_wanted():
        return "LIGHTRNN_NATIVE is 0"
    if not library.is_supported():
        return f"there are no kernels for {platform.system()} on {platform.machine()}"
    places = [path for path in (library.PACKAGED, library.cached_path()) if path is not None]
    for path in places:
        if os.path.exists(path):
            return f"{path} has nothing that this CPU runs"
    missing = " nor ".join(places)
    return f"no library at {missing}; `lightrnn build-kernels` builds one"


def cpu_level() -> str:
    """The CPU's x86-64 level, as far as the operating system tells."""
    machine = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return machine
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    for level, needed in _NEEDED.items():
        if needed <= flags:
            return f"x86-64-{level}"
    return machine
