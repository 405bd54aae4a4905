"""Where results go: stdout, or a file that appears only when it is complete."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO


@contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """A binary file to write; None or "-" is stdout.

    A regular file is written under another name and renamed at the end, so that it may also be
    an input, and an error or interrupt leaves what was there before.
    """
    if path is None or path == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            yield device
    else:
        with _replacing(Path(path).resolve()) as file:
            yield file


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        _set_mode(name, path)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _set_mode(name: str, path: Path) -> None:
    """Give a new file the permissions of the one that it replaces, else the usual ones."""
    if path.exists():
        shutil.copymode(path, name)
    else:
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)


class Progress:
    """A count of lines on a terminal, a few times a second; silent elsewhere."""

    def __init__(self, stream: TextIO, output: BinaryIO) -> None:
        self._stream = stream
        self._active = stream.isatty() and not output.isatty()
        self._count = 0
        self._next = time.monotonic() + 0.3

    def advance(self) -> None:
        """Count one more line."""
        self._count += 1
        if self._active and self._count % 64 == 0 and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.3
            print(f"\r{self._count:,} lines", end="", file=self._stream, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
