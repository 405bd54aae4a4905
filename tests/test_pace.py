"""The choice between one thread and the team, on clocks made here."""

from __future__ import annotations

import random

import pytest

from lightrnn.engine.pace import Pace


def spent(pace: Pace, seconds: dict[bool, float], runs: int) -> tuple[float, list[bool]]:
    """Seconds of many runs that take these times, and which way each went."""
    total, ways = 0.0, []
    for _ in range(runs):
        way = pace.team
        pace.record(way, seconds[way])
        total += seconds[way]
        ways.append(way)
    return total, ways


@pytest.mark.parametrize("times", [(1.0, 0.6), (1.0, 1.2), (1.0, 70.0), (50.0, 1.0)])
def test_what_is_slower_costs_a_twentieth_at_most(times: tuple[float, float]) -> None:
    pace = Pace()
    seconds = {False: times[0], True: times[1]}
    spent(pace, seconds, 8)
    total, ways = spent(pace, seconds, 10_000)
    assert total <= 1.06 * 10_000 * min(times)
    assert set(ways) == {False, True}


def test_a_machine_that_changes_is_noticed() -> None:
    pace = Pace()
    spent(pace, {False: 1.0, True: 20.0}, 1000)
    _, ways = spent(pace, {False: 1.0, True: 0.5}, 8000)
    assert sum(ways[-100:]) > 90


def test_a_moment_of_other_work_is_soon_forgotten() -> None:
    pace = Pace()
    spent(pace, {False: 1.0, True: 0.5}, 100)
    spent(pace, {False: 1.0, True: 1.5}, 10)
    _, ways = spent(pace, {False: 1.0, True: 0.5}, 100)
    assert sum(ways[:50]) > 20
    assert sum(ways[50:]) > 45


def test_the_first_runs_after_a_change_are_not_held_against_a_way() -> None:
    """Nor against one that other work had made slow before."""
    pace = Pace()
    last, since, ways = False, 0, []
    for run in range(2000):
        way = pace.team
        since = since + 1 if way == last else 0
        settling = (2.0, 0.5)[since] if since < 2 else 0.0
        busy = 1.0 if run < 500 else 0.0
        pace.record(way, (0.8 + busy if way else 1.0) + settling)
        last = way
        ways.append(way)
    assert sum(ways[:500]) < 100
    assert sum(ways[1000:]) > 950


def test_runs_that_a_busy_team_refuses_count_as_alone() -> None:
    """Whoever asks for the team may run alone instead; later it is free."""
    pace = Pace()
    chance = random.Random(1)
    for _ in range(100):
        pace.record(False, 1.0)
    for _ in range(100):
        pace.record(pace.team and chance.random() < 0.5, 1.0)
    _, ways = spent(pace, {False: 1.0, True: 0.5}, 500)
    assert sum(ways[-100:]) > 90
