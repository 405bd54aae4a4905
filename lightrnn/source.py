"""What a model was loaded from, and what stands for it in a pickle."""

from __future__ import annotations

import os
from typing import BinaryIO

from lightrnn.errors import FormatError

PICKLED_BYTES = 64 * 2**20
"""The largest file that is pickled whole; larger ones are pickled as path and hash."""


class Source:
    """A model's bytes, or its file: the absolute path, and what tells that it has changed.

    Make one before the file is read, so that no later change goes unseen. Raises OSError.
    """

    def __init__(self, given: str | os.PathLike[str] | bytes) -> None:
        self.data = given if isinstance(given, bytes) else None
        self.path = "" if isinstance(given, bytes) else os.path.abspath(os.fspath(given))
        self._stamp = () if isinstance(given, bytes) else _stamp(os.stat(given))

    def pickled(self) -> tuple[bytes, None] | tuple[str, str]:
        """The bytes and None, or of a large file its path and SHA-256.

        Raises FormatError where the file has changed, OSError where it cannot be read.
        """
        if self.data is not None:
            return self.data, None
        with open(self.path, "rb") as file:
            small = os.fstat(file.fileno()).st_size <= PICKLED_BYTES
            content, digest = (file.read(), "") if small else (b"", _digest(file))
            self._check(os.fstat(file.fileno()))
        return (content, None) if small else (self.path, digest)

    def check(self, digest: str) -> None:
        """Raise FormatError unless the file is unchanged and has this SHA-256."""
        with open(self.path, "rb") as file:
            found = _digest(file)
            self._check(os.fstat(file.fileno()))
        if found != digest:
            raise FormatError(
                f"{self.path} is not the file that was pickled: "
                f"its SHA-256 is {found}, expected {digest}"
            )

    def check_unchanged(self) -> None:
        """Raise FormatError where the file is not as it was when this was made; OSError."""
        self._check(os.stat(self.path))

    def _check(self, status: os.stat_result) -> None:
        if _stamp(status) != self._stamp:
            raise FormatError(f"{self.path} has changed since the model was loaded: load it again")


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(file: BinaryIO) -> str:
    """SHA-256 of what a file has left, in hexadecimal."""
    import hashlib  # a part of each start that only this needs

    state = hashlib.sha256()
    while block := file.read(2**20):
        state.update(block)
    return state.hexdigest()
