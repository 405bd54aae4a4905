"""Python's switch interval, shorter while a run gives up the GIL beside a busy thread.

Who wants the GIL back asks for it after that interval, 5 ms as Python is set up, whatever it wants
it for. The interval is the whole process's: it is changed for the time of such runs alone.
"""

from __future__ import annotations

import os
import sys
import threading

MICROSECONDS = 50
"""The interval while such a run goes on."""


class _Interval:
    """How many runs have asked for a short interval, and what it was before the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = self._before = 0

    def shorten(self) -> None:
        """Make the interval short until as many calls of `restore`."""
        with self._lock:
            if not self._runs:
                self._before = _microseconds()
                if self._before > MICROSECONDS:
                    _set(MICROSECONDS)
            self._runs += 1

    def restore(self) -> None:
        """Make it what it was, unless somebody else has set it since."""
        with self._lock:
            self._runs -= 1
            if not self._runs:
                self._end()

    def forget_runs(self) -> None:
        """In a forked child, where those of other threads do not go on."""
        self._lock = threading.Lock()
        if self._runs:
            self._runs = 0
            self._end()

    def _end(self) -> None:
        if _microseconds() == MICROSECONDS < self._before:
            _set(self._before)


def _microseconds() -> int:
    return round(sys.getswitchinterval() * 1e6)


def _set(microseconds: int) -> None:
    sys.setswitchinterval((microseconds + 0.5) * 1e-6)  # Python cuts it to whole ones


_interval = _Interval()
shorten, restore = _interval.shorten, _interval.restore

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_interval.forget_runs)
