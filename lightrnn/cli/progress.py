"""Progress on a terminal."""

from __future__ import annotations

import time
from typing import BinaryIO, Protocol, TextIO

_PAUSE = 0.3
"""Seconds between two updates."""


class Read(Protocol):
    """What is read: bytes in all, None where that is not known, and so far."""

    @property
    def total(self) -> int | None: ...

    @property
    def position(self) -> int: ...


class Progress:
    """Lines done, lines a second and time left, a few times a second; silent off a terminal."""

    def __init__(self, stream: TextIO, output: BinaryIO, read: Read) -> None:
        self._stream, self._read = stream, read
        self._active = stream.isatty() and not output.isatty()
        self._count = 0
        self._start = time.monotonic()
        self._next = self._start + _PAUSE
        if self._active:
            self._total, self._first = read.total, read.position

    def advance(self) -> None:
        """Count one more line."""
        self._count += 1
        if self._active and self._count % 64 == 0 and (now := time.monotonic()) >= self._next:
            self._next = now + _PAUSE
            print(f"\r{self._line(now)}\x1b[K", end="", file=self._stream, flush=True)

    def _line(self, now: float) -> str:
        spent = max(now - self._start, 1e-9)
        line = f"{self._count:,} lines, {self._count / spent:,.0f}/s"
        if not self._total:
            return line
        position = self._read.position
        left = spent * (self._total - position) / max(position - self._first, 1)
        return f"{line}, {position / self._total:.0%}, {_clock(left)} left"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            print("\r\x1b[K", end="", file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
