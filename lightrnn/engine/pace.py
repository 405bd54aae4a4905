"""Whether a program is worth the thread team: learnt from its own runs.

A team of threads that must meet at every step of a sequence is quicker on idle cores and very much
slower on busy ones, where each meeting waits for the scheduler. So both ways are timed, the
quicker one is used, and the other is tried again now and then: as soon as what the tries before
have cost is a small share of the time spent since. A try that costs little comes again soon, and
one that pays goes on.
"""

from __future__ import annotations

from math import inf

_MOST, _LEAST = 0.05, 0.01
"""Of the time spent, what may go into trying the slower way: at first, and after many tries."""
_SETTLING = 2
"""Runs after a change that do not count: workers sleep, caches hold something else."""
_FIRST = 4 * (_SETTLING + 1)
"""Runs that go both ways by turns; the quicker of a way's runs is what is known of it."""
_NEW = 0.25
"""Weight of a later run in what is known of its way."""
_WORST = 2
"""A run that took longer than this many of the quicker way's counts as that: it was disturbed."""


class Pace:
    """Times of one program, on its caller's thread alone and on the team.

    Threads may share a pace: a lost update is a lost sample.
    """

    __slots__ = ("_credit", "_last", "_runs", "_seconds", "_share", "_since", "team")

    def __init__(self) -> None:
        self._runs = 0
        self._last, self._since = False, 0
        self._seconds = [inf, inf]
        self._share = _MOST
        self._credit = 0.0
        """Seconds that may be spent on tries; below zero, those to be earned before the next."""
        self.team = True
        """Whether the next run should use the team."""

    def record(self, team: bool, seconds: float) -> None:
        """Take note of a run, and choose for the next."""
        self._since = self._since + 1 if team == self._last else 1
        counts, self._last = self._since > _SETTLING, team
        known = self._seconds
        if self._runs < _FIRST:
            self._runs += 1
            if counts:
                known[team] = min(known[team], seconds)
            self.team = team != counts
            return
        better = known[True] < known[False]
        quickest = known[better]
        if team == better:
            self._credit = min(self._credit + self._share * seconds, quickest)
        elif seconds > quickest:
            self._credit -= seconds - quickest
            self._share = max(0.9 * self._share, _LEAST)
        if not counts:
            self.team = team
            return
        taken = min(seconds, _WORST * quickest)
        known[team] = taken if known[team] == inf else known[team] + _NEW * (taken - known[team])
        now = known[True] < known[False]
        if now != better:
            self._share = _MOST
        pays = team != now and seconds < known[now]
        self.team = now if self._credit <= 0 and not pays else not now
