"""Read lines of text files, one after the other, in constant memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from lightrnn.cli.output import naming
from lightrnn.errors import TextError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STDIN = "-"


def check_readable(files: Sequence[str]) -> None:
    """Raise OSError for a file that is missing, a folder or not ours to read."""
    for name in files:
        if name != _STDIN and (os.path.isdir(name) or not os.access(name, os.R_OK)):
            open(name, "rb").close()


def read_lines(files: Sequence[str]) -> Iterator[str]:
    """Lines of UTF-8 files without their ends; no files, or "-", is stdin.

    Lines end with LF or CRLF. A byte-order mark at the start of a file is dropped. Raises
    TextError, naming file and line, for invalid UTF-8.
    """
    for name in files or (_STDIN,):
        if name == _STDIN:
            with naming("<stdin>"):
                yield from decoded(sys.stdin.buffer, "<stdin>")
        else:
            with open(name, "rb") as file, naming(name):
                yield from decoded(file, name)


def decoded(file: Iterable[bytes], name: str) -> Iterator[str]:
    """Text of the lines of one file, called `name` in errors."""
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            if not line:
                return
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise TextError(
                f"{name}: line {number} is not UTF-8: "
                f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
            ) from None
