"""Value classes: what frozen dataclasses are, with methods that are shared instead of generated.

A start imports dozens of them, and `dataclasses` compiles half a millisecond of code for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        return lambda cls: cls


REQUIRED: Final = object()
"""What stands for the default of a field that has none."""

EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
"""A default for fields that hold a mapping."""


@dataclass_transform(frozen_default=True)
class Record:
    """The base of value classes: annotated names are fields, in order, with their defaults.

    Instances cannot be changed, and are equal when they are of one class and their fields are;
    a class defined with `eq=False` compares by identity. `__post_init__` runs last.
    """

    fields: ClassVar[Mapping[str, Any]] = {}
    """The default of every field by name."""
    annotations: ClassVar[Mapping[str, str]] = {}
    """The type of every field by name, as it is written."""
    aside: ClassVar[tuple[str, ...]] = ()
    """Fields that take no part in equality and repr."""

    def __init_subclass__(cls, eq: bool = True, **options: Any) -> None:
        super().__init_subclass__(**options)
        kinds = cls.__annotations__.items()
        own = {name: kind for name, kind in kinds if not kind.startswith("ClassVar")}
        cls.annotations = {**cls.annotations, **own}
        cls.fields = {**cls.fields, **{n: cls.__dict__.get(n, REQUIRED) for n in own}}
        if not eq:
            cls.__eq__ = object.__eq__  # type: ignore[method-assign]
            cls.__hash__ = object.__hash__  # type: ignore[method-assign]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = self.__dict__
        names = iter(self.fields)
        for value, name in zip(args, names, strict=False):
            values[name] = value
        for name in names:
            values[name] = kwargs.pop(name, self.fields[name])
        missing = [name for name in self.fields if values[name] is REQUIRED]
        if missing or kwargs or len(args) > len(self.fields):
            wrong = f"missing {missing}" if missing else f"too many {[*args, *kwargs]}"
            raise TypeError(f"{type(self).__name__}({', '.join(self.fields)}): {wrong}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Refuse field values that do not fit."""

    def _compared(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.fields if name not in self.aside)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign to {type(self).__name__}.{name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete {type(self).__name__}.{name}")

    def __repr__(self) -> str:
        shown = [f"{n}={getattr(self, n)!r}" for n in self.fields if n not in self.aside]
        return f"{type(self).__name__}({', '.join(shown)})"


R = TypeVar("R", bound=Record)


def replace(record: R, **changes: Any) -> R:
    """A record like this one but for these fields."""
    return type(record)(**{name: getattr(record, name) for name in record.fields} | changes)
