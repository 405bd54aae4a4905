"""Find, check and load the compiled kernel library. Loading never compiles."""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import sys

from lightrnn.errors import NativeError
from lightrnn.native import abi
from lightrnn.native.sources import checksum, source_hash
from lightrnn.record import Record

FILE_NAME = "lightrnn_kernels.so"
PACKAGED = os.path.join(os.path.dirname(os.path.realpath(__file__)), FILE_NAME)


class Library(Record, eq=False):
    """A loaded kernel library.

    level: which of abi.LEVELS was picked for this CPU.
    addresses: kernel name to the address of its compiled form.
    """

    path: str
    level: str
    addresses: dict[str, int]
    handle: ctypes.CDLL

    def address(self, symbol: str) -> int:
        """The address of any symbol of the library."""
        return int(ctypes.cast(getattr(self.handle, symbol), ctypes.c_void_p).value or 0)


def cached_path() -> str | None:
    """Where `lightrnn build-kernels` puts a library for this user; None for one without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "lightrnn", FILE_NAME) if os.path.isabs(base) else None


def is_supported() -> bool:
    """Whether there are kernels for this platform: Linux on x86-64."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32


def is_wanted() -> bool:
    """Whether LIGHTRNN_NATIVE allows kernels, as it does by default. Raises NativeError."""
    wanted = os.environ.get("LIGHTRNN_NATIVE") or "1"
    if wanted not in ("0", "1"):
        raise NativeError(f"LIGHTRNN_NATIVE is {wanted!r}, expected 0 or 1")
    return wanted == "1"


@functools.cache
def load() -> Library | None:
    """The packaged library, else the user's cached one, else None.

    Raises NativeError for a library that is damaged, that was built from other sources or by
    another ABI, or that somebody else could have written.
    """
    if not is_wanted() or not is_supported():
        return None
    if os.path.exists(PACKAGED):
        return open_library(PACKAGED)
    cached = cached_path()
    if cached is not None and os.path.exists(cached):
        check_private(cached)
        return open_library(cached)
    return None


def open_library(path: str) -> Library | None:
    """Load one library file; None where this CPU runs none of its levels. Raises NativeError."""
    _check_whole(path)
    try:
        handle = ctypes.CDLL(path)
    except OSError as error:
        raise NativeError(f"{path}: cannot be loaded: {error}") from None
    handle.lr_hash.restype = ctypes.c_char_p
    handle.lr_abi.restype = handle.lr_level.restype = ctypes.c_int64
    handle.lr_use_tiles.restype = ctypes.c_int64
    if handle.lr_abi() != abi.ABI:
        raise NativeError(f"{path}: ABI {handle.lr_abi()}, expected {abi.ABI}; {_REMEDY}")
    if handle.lr_hash() != source_hash().encode():
        raise NativeError(f"{path}: built from other kernel sources; {_REMEDY}")
    level = usable_level(handle)
    if level is None:
        return None
    code = abi.CODE.get(level, level)
    addresses = {
        name: int(ctypes.cast(getattr(handle, f"lr_{one}_{name}"), ctypes.c_void_p).value or 0)
        for one in ("v4", code)
        if code in abi.MODULES or one == code
        for name in abi.kernels_of(one)
    }
    return Library(path, level, addresses, handle)


def usable_level(handle: ctypes.CDLL) -> str | None:
    """The level to use: LIGHTRNN_LEVEL, else the last of those that this CPU runs, or None."""
    usable = abi.LEVELS[: handle.lr_level()]
    if usable == abi.LEVELS and handle.lr_use_tiles() != 0:
        usable = usable[:-1]
    wanted = os.environ.get("LIGHTRNN_LEVEL")
    if wanted and wanted not in usable:
        raise NativeError(
            f"LIGHTRNN_LEVEL is {wanted!r}, this CPU runs {', '.join(usable) or 'no level'}"
        )
    return wanted or (usable[-1] if usable else None)


_REMEDY = "run `lightrnn build-kernels`, or install lightrnn again"


def _check_whole(path: str) -> None:
    """Refuse a damaged file: loading half a library would end the process."""
    try:
        with open(path, "rb") as file:
            data = memoryview(file.read())
    except OSError as error:
        raise NativeError(f"{path}: cannot be read: {error.strerror}") from None
    if checksum(data[:-4]) != data[-4:]:
        raise NativeError(f"{path}: damaged, its checksum does not fit; {_REMEDY}")


def check_private(path: str) -> None:
    """Refuse a library that another user owns or could change."""
    real = os.path.realpath(path)
    for place in (os.path.dirname(path), os.path.dirname(real), real):
        info = os.stat(place)
        if info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o022:
            raise NativeError(f"{place}: must belong to you and be writable by you alone")
