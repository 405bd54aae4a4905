"""Whether a program keeps the GIL while it runs: learnt from what giving it up has cost.

Who gives up the GIL beside a thread that computes in Python waits for it afterwards until that
thread is made to let go, 5 ms as Python is set up: many times what a program of 0.2 ms takes.
"""

from __future__ import annotations

WAIT = 0.003
"""Seconds beyond its own time after which a run has waited for the GIL."""
_WAITS = 2
"""Such runs, one after the other, after which the GIL is kept."""
_KEPT = 64
"""Runs that keep it before the next tries to give it up."""


class Grip:
    """What is known of one program. Threads may share it: a lost update is a lost sample."""

    __slots__ = ("_left", "_own", "_waited", "keeps")

    def __init__(self) -> None:
        self._waited = self._left = 0
        self._own = 0.0
        """Seconds of the quickest run that kept the GIL, 0 while there was none."""
        self.keeps = False
        """Whether the next run should keep the GIL."""

    def released(self, seconds: float) -> None:
        """Take note of a run that gave up the GIL."""
        self._waited = self._waited + 1 if seconds > self._own + WAIT else 0
        if self._waited >= _WAITS:
            self.keeps, self._left = True, _KEPT

    def kept(self, seconds: float) -> None:
        """Take note of a run that kept it. One that gives it up decides after the last of them."""
        self._own = min(self._own or seconds, seconds)
        self._left -= 1
        if self._left <= 0:
            self.keeps, self._waited = False, _WAITS - 1
