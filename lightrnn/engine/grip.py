"""Whether giving up the GIL makes a program wait: learnt from what that has cost.

Who gives up the GIL beside a thread that computes in Python waits for it afterwards until that
thread is made to let go, 5 ms as Python is set up: many times what a program of 0.2 ms takes. Short
programs then keep it, longer ones have others made to let go sooner (`engine.switching`).
"""

from __future__ import annotations

WAIT = 0.003
"""Seconds beyond its own time after which a run has waited for the GIL."""
_WAITS = 2
"""Such runs, one after the other, after which no run gives up the GIL just so."""
_SPARED = 64
"""Runs that do not, before the next tries."""


class Grip:
    """What is known of one program. Threads may share it: a lost update is a lost sample."""

    __slots__ = ("_last", "_left", "_own", "_waited", "waits")

    def __init__(self) -> None:
        self._waited = self._left = 0
        self._own = self._last = 0.0
        """Seconds of the quickest run that was spared the wait, 0 while there was none."""
        self.waits = False
        """Whether the next run should be spared it."""

    def released(self, seconds: float) -> None:
        """Take note of a run that gave up the GIL just so."""
        self._waited = self._waited + 1 if seconds > self._own + WAIT else 0
        self._last = seconds
        if self._waited >= _WAITS:
            self.waits, self._left = True, _SPARED

    def spared(self, seconds: float) -> None:
        """Take note of a run that did not. One that does decides after the last of them.

        The first is the last, too, if nothing was won: long programs are slow without any wait.
        """
        self._own = min(self._own or seconds, seconds)
        vain = self._left == _SPARED and seconds > self._last - WAIT
        self._left -= 1
        if self._left <= 0 or vain:
            self.waits, self._waited = False, _WAITS - 1
