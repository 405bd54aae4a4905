"""Whether a program is worth the thread team: learnt from its own runs.

A team of threads that must meet at every step of a sequence is quicker on idle cores and very much
slower on busy ones, where each meeting waits for the scheduler. So both ways are timed, the
quicker one is used, and the other is tried again now and then.
"""

from __future__ import annotations

_SHARE = 0.05
"""Of the time spent, what may go into trying the way that was slower."""
_FIRST = 4
"""Runs that go both ways by turns; the first two are slow for other reasons and do not count."""


class Pace:
    """Times of one program, on its caller's thread alone and on the team.

    Threads may share it: a lost update is a lost sample.
    """

    __slots__ = ("_runs", "_seconds", "_since", "team")

    def __init__(self) -> None:
        self._runs = 0
        self._seconds = [0.0, 0.0]
        self._since = 0.0
        self.team = True
        """Whether the next run should use the team."""

    def record(self, team: bool, seconds: float) -> None:
        """Take note of a run, and choose for the next."""
        known = self._seconds
        if self._runs < _FIRST:
            self._runs += 1
            known[team] = seconds
            self.team = not team
            if self._runs < _FIRST or not known[not team]:
                return
        better = known[True] < known[False]
        if team == better:
            known[team] = 0.75 * known[team] + 0.25 * seconds
            self._since += seconds
        else:
            known[team] = seconds
            self._since = 0.0
        other = known[not better]
        self.team = better if self._since * _SHARE < other else not better
