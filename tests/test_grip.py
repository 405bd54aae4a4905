"""A busy Python thread: programs learn to keep the GIL, and copies never give it up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lightrnn.engine.arena import SHORT
from lightrnn.engine.copies import copied, copier, fill, filler, is_kept
from lightrnn.engine.executor import HOLD, Executor
from lightrnn.engine.grip import Grip
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.graph import FLOAT32, Array, Graph, Node, TensorType
from lightrnn.native import library

QUICK, WAITED = 2e-4, 5.2e-3


def keep(grip: Grip, seconds: float) -> int:
    """Runs that keep the GIL before one tries to give it up."""
    runs = 0
    while grip.keeps:
        grip.kept(seconds)
        runs += 1
    return runs


def test_a_program_that_waits_twice_keeps_the_gil_and_tries_again() -> None:
    grip = Grip()
    for seconds in (QUICK, WAITED, QUICK, WAITED):
        grip.released(seconds)
        assert not grip.keeps
    grip.released(WAITED)
    assert keep(grip, QUICK) == 64
    grip.released(WAITED)
    assert keep(grip, QUICK) == 64, "one more wait is enough: the thread is still there"
    grip.released(QUICK)
    grip.released(WAITED)
    assert not grip.keeps, "the thread was gone: it takes two again"


def test_a_program_that_is_slow_by_itself_gives_it_up() -> None:
    grip = Grip()
    for _ in range(2):
        grip.released(0.004)
    keep(grip, 0.0039)
    for _ in range(100):
        grip.released(0.004)
        assert not grip.keeps
    for _ in range(2):
        grip.released(0.004 + WAITED)
    assert grip.keeps


@pytest.mark.native
def test_an_executor_does_as_the_grip_says(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = library.load()
    assert kernels is not None
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 64)).astype(np.float32)
    x = rng.standard_normal((400, 64)).astype(np.float32)
    graph = Graph(
        {"x": TensorType(FLOAT32, ("n", 64))}, {"y": TensorType(FLOAT32, ("n", 64))},
        (Node("MatMul", ("x", "w"), ("y",)),), {"w": w},
    )  # fmt: skip
    plan = prepare(graph, ("y",), PackedStore()).plan((x.shape,))
    assert plan.whole is not None
    assert SHORT < plan.whole.work < HOLD
    executor = Executor(kernels, 1)
    ways: list[str] = []
    for name in ("_short", "_long"):
        call = getattr(executor, name)

        def noted(args: int, call: Callable[[int], int] = call, name: str = name) -> int:
            ways.append(name)
            return call(args)

        monkeypatch.setattr(executor, name, noted)
    results = {executor.run(plan, [x])[0].tobytes()}
    plan.whole.grip.released(1.0)
    plan.whole.grip.released(1.0)
    results |= {executor.run(plan, [x])[0].tobytes() for _ in range(65)}
    assert ways == ["_long", *["_short"] * 64, "_long"]
    assert len(results) == 1


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
