"""The choice between one thread and the team, on clocks made here."""

from __future__ import annotations

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
    spent(pace, seconds, 2)
    total, ways = spent(pace, seconds, 10_000)
    assert total <= 1.06 * 10_000 * min(times)
    assert set(ways) == {False, True}


def test_a_machine_that_changes_is_noticed() -> None:
    pace = Pace()
    spent(pace, {False: 1.0, True: 20.0}, 1000)
    _, ways = spent(pace, {False: 1.0, True: 0.5}, 5000)
    assert all(ways[-100:]) or sum(ways[-100:]) > 80


def test_a_slow_first_run_is_not_held_against_a_way() -> None:
    pace = Pace()
    for seconds in ({False: 1.0, True: 9.0}, {False: 1.0, True: 0.5}):
        spent(pace, seconds, 2)
    _, ways = spent(pace, {False: 1.0, True: 0.5}, 20)
    assert sum(ways) >= 19
