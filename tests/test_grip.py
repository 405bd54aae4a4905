"""A busy Python thread: programs learn not to wait for the GIL, and copies never give it up."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lightrnn.engine import switching
from lightrnn.engine.arena import SHORT
from lightrnn.engine.copies import copied, copier, fill, filler, is_kept
from lightrnn.engine.executor import BRISK, HOLD, Executor
from lightrnn.engine.grip import Grip
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.graph import FLOAT32, Array, Graph, Node, TensorType
from lightrnn.native import library

QUICK, WAITED = 2e-4, 5.2e-3


def spare(grip: Grip, seconds: float) -> int:
    """Runs that are spared the wait before one tries again."""
    runs = 0
    while grip.waits:
        grip.spared(seconds)
        runs += 1
    return runs


def test_a_program_that_waits_twice_is_spared_it_and_tries_again() -> None:
    grip = Grip()
    for seconds in (QUICK, WAITED, QUICK, WAITED):
        grip.released(seconds)
        assert not grip.waits
    grip.released(WAITED)
    assert spare(grip, QUICK) == 64
    grip.released(WAITED)
    assert spare(grip, QUICK) == 64, "one more wait is enough: the thread is still there"
    grip.released(QUICK)
    grip.released(WAITED)
    assert not grip.waits, "the thread was gone: it takes two again"


def test_a_run_that_python_made_let_go_does_not_end_the_sparing() -> None:
    grip = Grip()
    grip.released(WAITED)
    grip.released(WAITED)
    grip.spared(QUICK)
    grip.spared(WAITED)
    assert spare(grip, QUICK) == 62


def test_a_program_that_is_slow_by_itself_gives_it_up() -> None:
    grip = Grip()
    for _ in range(2):
        grip.released(0.004)
    assert spare(grip, 0.0039) == 1, "nothing was won"
    for _ in range(100):
        grip.released(0.004)
        assert not grip.waits
    for _ in range(2):
        grip.released(0.004 + WAITED)
    assert grip.waits


@pytest.mark.native
@pytest.mark.parametrize("rows", [400, 3000])
def test_an_executor_does_as_the_grip_says(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short programs keep the GIL, longer ones shorten the switch interval while they run."""
    kernels = library.load()
    assert kernels is not None
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 64)).astype(np.float32)
    x = rng.standard_normal((rows, 64)).astype(np.float32)
    graph = Graph(
        {"x": TensorType(FLOAT32, ("n", 64))}, {"y": TensorType(FLOAT32, ("n", 64))},
        (Node("MatMul", ("x", "w"), ("y",)),), {"w": w},
    )  # fmt: skip
    plan = prepare(graph, ("y",), PackedStore()).plan((x.shape,))
    assert plan.whole is not None
    assert SHORT < plan.whole.work < BRISK
    keeps = plan.whole.work < HOLD
    assert keeps == (rows == 400)
    executor = Executor(kernels, 1)
    ways: list[tuple[str, float]] = []
    for name in ("_short", "_long"):
        call = getattr(executor, name)

        def noted(args: int, call: Callable[[int], int] = call, name: str = name) -> int:
            ways.append((name, round(sys.getswitchinterval(), 6)))
            return call(args)

        monkeypatch.setattr(executor, name, noted)
    usual = round(sys.getswitchinterval(), 6)
    results = {executor.run(plan, [x])[0].tobytes()}
    plan.whole.grip.released(1.0)
    plan.whole.grip.released(1.0)
    results |= {executor.run(plan, [x])[0].tobytes() for _ in range(65)}
    spared = ("_short", usual) if keeps else ("_long", round(switching.MICROSECONDS * 1e-6, 6))
    assert ways == [("_long", usual), *[spared] * 64, ("_long", usual)]
    assert len(results) == 1
    assert round(sys.getswitchinterval(), 6) == usual


@pytest.fixture
def interval() -> Iterator[Callable[[], int]]:
    """Python's switch interval in microseconds; what it was is set again afterwards."""
    before = sys.getswitchinterval()
    yield lambda: round(sys.getswitchinterval() * 1e6)
    sys.setswitchinterval(before)


def test_the_switch_interval_is_short_while_any_run_asks_for_it(
    interval: Callable[[], int],
) -> None:
    sys.setswitchinterval(0.004)
    switching.shorten()
    assert interval() == switching.MICROSECONDS
    switching.shorten()
    switching.restore()
    assert interval() == switching.MICROSECONDS
    switching.restore()
    assert interval() == 4000


@pytest.mark.parametrize("users", [0.00002, 0.00005])
def test_an_interval_that_is_short_already_stays(users: float, interval: Callable[[], int]) -> None:
    sys.setswitchinterval(users)
    given = interval()
    assert given <= switching.MICROSECONDS
    switching.shorten()
    assert interval() == given
    switching.restore()
    assert interval() == given


def test_an_interval_that_somebody_sets_meanwhile_stays(interval: Callable[[], int]) -> None:
    switching.shorten()
    sys.setswitchinterval(0.002)
    switching.restore()
    assert interval() == 2000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_the_usual_interval(interval: Callable[[], int]) -> None:
    sys.setswitchinterval(0.003)
    switching.shorten()
    child = os.fork()
    if not child:
        os._exit(0 if interval() == 3000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert interval() == switching.MICROSECONDS
    switching.restore()
    assert interval() == 3000


def test_many_threads_leave_the_interval_as_it_was(interval: Callable[[], int]) -> None:
    sys.setswitchinterval(0.003)

    def work() -> None:
        for _ in range(500):
            switching.shorten()
            switching.restore()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert interval() == 3000


ARRAYS: dict[str, Callable[[], Array]] = {
    "float32": lambda: np.arange(600, dtype=np.float32).reshape(30, 1, 20),
    "float16": lambda: np.arange(501).astype(np.float16),
    "int64": lambda: np.arange(1000).reshape(10, 100),
    "bool": lambda: np.arange(700) % 3 == 0,
    "float64": lambda: np.arange(600.0),
    "strided": lambda: np.arange(1200, dtype=np.float32)[::2],
    "turned": lambda: np.arange(600, dtype=np.float32).reshape(20, 30).T,
    "few": lambda: np.arange(3, dtype=np.int32),
    "none": lambda: np.empty((0, 7), np.float32),
    "a number": lambda: np.array(2.5, np.float32),
    "many": lambda: np.arange(1 << 19, dtype=np.float32),
}


@pytest.mark.parametrize("make", ARRAYS.values(), ids=list(ARRAYS))
def test_copies_are_copies(make: Callable[[], Array]) -> None:
    array = make()
    array.flags.writeable = False
    place = np.zeros(array.shape, array.dtype)
    filler(place)(array)
    assert place.tobytes() == array.tobytes()
    made = copier(place)()
    assert (made.dtype, made.shape, made.tobytes()) == (place.dtype, place.shape, place.tobytes())
    assert not np.shares_memory(made, place)
    if is_kept(place):
        place[...] = 0
        fill(place, array)
        assert copied(place).tobytes() == array.tobytes()


class Column:
    """What is no array and can be made one, such as a data frame's column."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        return self.values


def test_other_containers_are_copied_too() -> None:
    values = np.arange(700, dtype=np.float32)
    place = np.zeros(700, np.float32)
    filler(place)(Column(values))  # type: ignore[arg-type]
    assert place.tobytes() == values.tobytes()
