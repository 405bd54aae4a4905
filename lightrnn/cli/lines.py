"""Read lines of text files, one after the other, in constant memory."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

from lightrnn.cli.output import naming
from lightrnn.errors import InputError, TextError

ERRORS = ("strict", "replace")
"""What becomes of bytes that are not UTF-8: an error, or U+FFFD."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_STDIN = "-"


def check_readable(files: Sequence[str]) -> None:
    """Raise OSError for a file that is missing, a folder or not ours to read."""
    for name in files:
        if name != _STDIN and (os.path.isdir(name) or not os.access(name, os.R_OK)):
            open(name, "rb").close()


class Lines:
    """Lines of UTF-8 files without their ends, to be read once; no files, or "-", is stdin.

    Lines end with LF or CRLF. A byte-order mark at the start of a file is dropped. What begins
    as gzip does is decompressed. Reading raises TextError, naming file and line, for invalid
    UTF-8 unless errors is "replace".
    """

    def __init__(self, files: Sequence[str], errors: str = "strict") -> None:
        self._files, self._errors = files or (_STDIN,), errors
        self._file: Any = None
        self._before = 0
        self._lines = self._read()

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def skip(self, count: int) -> None:
        """Pass over lines. Raises InputError where there are fewer."""
        found = sum(1 for _ in islice(self._lines, count))
        if found < count:
            raise InputError(f"the input has {found:,} lines, of which {count:,} should be done")

    @property
    def total(self) -> int | None:
        """Bytes of all files; None where one of them is not a regular file."""
        sizes = [regular_size(name) for name in self._files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def position(self) -> int:
        """Bytes of the files read so far, as they are stored."""
        return self._before + (0 if self._file is None else self._file.tell())

    def _read(self) -> Iterator[str]:
        for name in self._files:
            if name == _STDIN:
                with naming("<stdin>"):
                    yield from self._decoded(sys.stdin.buffer, "<stdin>")
            else:
                with open(name, "rb") as file, naming(name):
                    self._file = file
                    yield from self._decoded(file, name)
                    self._before, self._file = self.position, None

    def _decoded(self, file: BinaryIO, name: str) -> Iterator[str]:
        with _decompressing(name):
            yield from decoded(_plain(file), name, self._errors)


def regular_size(name: str) -> int | None:
    """Bytes of a file; None where it is stdin, a pipe or a device."""
    if name == _STDIN:
        return None
    found = os.stat(name)
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def decoded(file: Iterable[bytes], name: str, errors: str = "strict") -> Iterator[str]:
    """Text of the lines of one file, called `name` in errors."""
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            if not line:
                return
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise TextError(
                f"{name}: line {number} is not UTF-8: "
                f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
            ) from None


def _plain(file: BinaryIO) -> BinaryIO:
    """A file's contents, decompressed where it is gzip, which never begins valid UTF-8."""
    if not isinstance(file, io.BufferedReader) or file.peek(2)[:2] != _GZIP:
        return file
    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]


@contextmanager
def _decompressing(name: str) -> Iterator[None]:
    """Name the file in what goes wrong with its compression."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TextError(f"{name}: damaged gzip: {error}") from None
