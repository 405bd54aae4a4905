"""Where results go: stdout, or a file that appears only when it is complete."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lightrnn.cli.arguments import UsageError


@contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """A binary file to write; None or "-" is stdout.

    A regular file is written under another name and renamed at the end, so that it may also be
    an input, and an error or interrupt leaves what was there before. An OSError names the file.
    """
    if path is None or path == "-":
        with naming("<stdout>"), _stdout() as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    with naming(path):
        if target.exists() and not target.is_file():
            with open(target, "wb") as device:
                yield device
        else:
            with _replacing(target) as file:
                yield file


@contextmanager
def _stdout() -> Iterator[BinaryIO]:
    """sys.stdout for bytes, also where Python leaves it unbuffered, which may write in part."""
    sys.stdout.flush()
    stream = sys.stdout.buffer
    if not isinstance(stream, io.RawIOBase):
        yield stream
        stream.flush()
        return
    buffered = io.BufferedWriter(stream)
    try:
        yield buffered
    finally:
        buffered.detach()


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".lightrnn-")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        _set_mode(name, path)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def check_not_replaced(source: str, output: str | None) -> None:
    """Raise UsageError where the output would take the place of the model that is read."""
    paths = (source, output or "")
    if all(map(os.path.exists, paths)) and os.path.samefile(*paths):
        raise UsageError(f"the output would replace {source}")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the file in an OSError that does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = name
        raise


def say(text: object) -> None:
    """Print lines to stdout, in UTF-8 whatever the locale, control characters escaped."""
    with open_output(None) as output:
        for line in str(text).split("\n"):
            output.write(f"{printable(line)}\n".encode())


def printable(text: str) -> str:
    """Text of unknown origin for one line of a terminal: control characters are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _set_mode(name: str, path: Path) -> None:
    """Give a new file the permissions of the one that it replaces, else the usual ones."""
    if path.exists():
        shutil.copymode(path, name)
    else:
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
