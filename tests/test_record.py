"""Records beside the frozen dataclasses that they stand for."""

from __future__ import annotations

import dataclasses
import pickle
from typing import ClassVar

import pytest

from lightrnn.record import Record, replace


class Point(Record):
    x: int
    y: int = 2
    note: str = ""

    kind: ClassVar[str] = "point"
    aside: ClassVar[tuple[str, ...]] = ("note",)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


class Solid(Point):
    z: int = 3


class Thing(Record, eq=False):
    size: int


@dataclasses.dataclass(frozen=True)
class Twin:
    x: int
    y: int = 2
    note: str = dataclasses.field(default="", compare=False, repr=False)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 5), {}), ((), {"x": 1, "y": 4}), ((1,), {"note": "n", "y": 7})],
)
def test_fields_are_filled_as_a_dataclass_fills_them(
    args: tuple[int, ...], kwargs: dict[str, object]
) -> None:
    made, twin = Point(*args, **kwargs), Twin(*args, **kwargs)  # type: ignore[arg-type]
    assert made.__dict__ == twin.__dict__
    assert repr(made) == repr(twin).replace("Twin", "Point")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, 2, "", 4), {}),
        ((1,), {"x": 1}),
        ((1,), {"w": 1}),
        ((), {"y": 1}),
        ((), {"y": 1, "w": 1}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    args: tuple[int, ...], kwargs: dict[str, object]
) -> None:
    for cls in (Point, Twin):
        with pytest.raises(TypeError, match=cls.__name__):
            cls(*args, **kwargs)  # type: ignore[arg-type]


def test_values_are_equal_by_class_and_fields() -> None:
    assert Point(1, 2, "a") == Point(1, 2, "b")
    assert hash(Point(1, 2, "a")) == hash(Point(1, 2, "b"))
    assert Point(1) != Point(2)
    assert Point(1) != Solid(1)
    assert Thing(1) != Thing(1)
    assert len({Thing(1), Thing(1)}) == 2


def test_a_subclass_adds_its_fields_at_the_end() -> None:
    assert tuple(Solid.fields) == ("x", "y", "note", "z")
    assert replace(Solid(1, z=9), y=5) == Solid(1, 5, "", 9)


def test_values_do_not_change() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match=r"Point\.x"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"Point\.x"):
        del point.x
    assert point == Point(1)


def test_checks_of_a_class_hold_for_copies_and_survive_pickling() -> None:
    with pytest.raises(ValueError, match="negative"):
        replace(Point(1), x=-1)
    assert pickle.loads(pickle.dumps(Solid(1, 2, "n", 4))).__dict__ == Solid(1, 2, "n", 4).__dict__
