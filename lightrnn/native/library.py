"""Find, check and load the compiled kernel library. Loading never compiles."""

from __future__ import annotations

import ctypes
import functools
import os
import stat
from dataclasses import dataclass

from lightrnn.errors import NativeError
from lightrnn.native import abi
from lightrnn.native.sources import source_hash

FILE_NAME = "lightrnn_kernels.so"
PACKAGED = os.path.join(os.path.dirname(os.path.realpath(__file__)), FILE_NAME)


@dataclass(frozen=True, eq=False)
class Library:
    """A loaded kernel library.

    level: the x86-64 level that was picked for this CPU.
    addresses: kernel name to the address of its compiled form.
    """

    path: str
    level: str
    addresses: dict[str, int]
    handle: ctypes.CDLL

    def address(self, symbol: str) -> int:
        """The address of any symbol of the library."""
        return int(ctypes.cast(getattr(self.handle, symbol), ctypes.c_void_p).value or 0)


def cached_path() -> str:
    """Where `lightrnn build-kernels` puts a library for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "lightrnn", FILE_NAME)


@functools.cache
def load() -> Library | None:
    """The packaged library, else the user's cached one, else None.

    Raises NativeError for a library that was built from other sources or by another ABI, or that
    somebody else could have written.
    """
    if os.environ.get("LIGHTRNN_NATIVE", "1") == "0":
        return None
    if os.path.exists(PACKAGED):
        return open_library(PACKAGED)
    cached = cached_path()
    if os.path.exists(cached):
        _check_private(cached)
        return open_library(cached)
    return None


def open_library(path: str) -> Library | None:
    """Load one library file; None where this CPU runs none of its levels."""
    try:
        handle = ctypes.CDLL(path)
    except OSError as error:
        raise NativeError(f"{path}: cannot be loaded: {error}") from None
    handle.lr_hash.restype = ctypes.c_char_p
    handle.lr_abi.restype = handle.lr_level.restype = ctypes.c_int64
    if handle.lr_abi() != abi.ABI:
        raise NativeError(f"{path}: ABI {handle.lr_abi()}, expected {abi.ABI}; {_REMEDY}")
    if handle.lr_hash() != source_hash().encode():
        raise NativeError(f"{path}: built from other kernel sources; {_REMEDY}")
    best = int(handle.lr_level())
    usable = [level for level in abi.LEVELS if int(level[1:]) <= best]
    if wanted := os.environ.get("LIGHTRNN_LEVEL"):
        usable = [level for level in usable if level == wanted]
    if not usable:
        return None
    level = usable[-1]
    addresses = {
        name: int(ctypes.cast(getattr(handle, f"lr_{level}_{name}"), ctypes.c_void_p).value or 0)
        for name in (*abi.KERNELS, abi.ALONE)
    }
    return Library(path, level, addresses, handle)


_REMEDY = "run `lightrnn build-kernels`, or install lightrnn again"


def _check_private(path: str) -> None:
    """Refuse a library that another user owns or could change."""
    for place in (path, os.path.dirname(path)):
        info = os.stat(place)
        if info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o022:
            raise NativeError(f"{place}: must belong to you and be writable by you alone")
