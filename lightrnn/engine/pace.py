"""Whether a program is worth the thread team: learnt from its own runs.

A team of threads that must meet at every step of a sequence is quicker on idle cores and very much
slower on busy ones, where each meeting waits for the scheduler. So both ways are timed, the
quicker one is used, and the other is tried again now and then: as soon as what the tries before
have cost is a small share of the time spent since. A try that costs little comes again soon.
"""

from __future__ import annotations

_MOST, _LEAST = 0.05, 0.01
"""Of the time spent, what may go into trying the slower way: at first, and after many tries."""
_FIRST = 4
"""Runs that go both ways by turns; the first two are slow for other reasons and do not count."""
_NEW = 0.25
"""Weight of a run in what is known of its way."""
_WORST = 2
"""A run that took longer than this many of the quicker way's counts as that: it was disturbed."""


class Pace:
    """Times of one program, on its caller's thread alone and on the team.

    Threads may share it: a lost update is a lost sample.
    """

    __slots__ = ("_credit", "_runs", "_seconds", "_share", "team")

    def __init__(self) -> None:
        self._runs = 0
        self._seconds = [0.0, 0.0]
        self._share = _MOST
        self._credit = 0.0
        """Seconds that may be spent on tries; below zero, those to be earned before the next."""
        self.team = True
        """Whether the next run should use the team."""

    def record(self, team: bool, seconds: float) -> None:
        """Take note of a run, and choose for the next."""
        known = self._seconds
        if self._runs < _FIRST:
            self._runs += 1
            known[team] = seconds
            if self._runs < _FIRST or not known[not team]:
                self.team = not team
                return
            self._credit = -abs(known[True] - known[False])
        better = known[True] < known[False]
        quickest = known[better]
        if team == better:
            self._credit = min(self._credit + self._share * seconds, quickest)
        elif seconds > quickest:
            self._credit -= seconds - quickest
            self._share = max(0.9 * self._share, _LEAST)
        known[team] += _NEW * (min(seconds, _WORST * quickest) - known[team])
        now = known[True] < known[False]
        if now != better:
            self._share = _MOST
        self.team = now if self._credit <= 0 else not now
