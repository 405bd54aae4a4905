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


EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
"""A default for fields that hold a mapping."""


@dataclass_transform(frozen_default=True)
class Record:
    """The base of value classes: annotated names are fields, in order, with their defaults.

    Instances cannot be changed, and are equal when they are of one class and their fields are;
    a class defined with `eq=False` compares by identity. `__post_init__` runs last.
    """

    fields: ClassVar[Mapping[str, str]] = {}
    """The type of every field by name, as it is written."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    aside: ClassVar[tuple[str, ...]] = ()
    """Fields that take no part in equality and repr."""

    def __init_subclass__(cls, eq: bool = True, **options: Any) -> None:
        super().__init_subclass__(**options)
        kinds = cls.__annotations__.items()
        own = {name: kind for name, kind in kinds if not kind.startswith("ClassVar")}
        cls.fields = {**cls.fields, **own}
        given = {name: cls.__dict__[name] for name in own if name in cls.__dict__}
        cls.defaults = {**cls.defaults, **given}
        if not eq:
            cls.__eq__ = object.__eq__  # type: ignore[method-assign]
            cls.__hash__ = object.__hash__  # type: ignore[method-assign]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = self.fields
        values = dict(self.defaults)
        values.update(zip(fields, args, strict=False))
        values.update(kwargs)
        fits = len(values) == len(fields) >= len(args)
        if not fits or (kwargs and not kwargs.keys() <= set(list(fields)[len(args) :])):
            raise TypeError(
                f"{type(self).__name__}({', '.join(fields)}) was given {len(args)} by place"
                f" and by name {', '.join(kwargs) or 'none'}"
            )
        for name, value in values.items():
            _assign(self, name, value)
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


_assign = object.__setattr__
"""Keeps an instance compact; a change of its `__dict__` would not."""

R = TypeVar("R", bound=Record)


def replace(record: R, **changes: Any) -> R:
    """A record like this one but for these fields."""
    return type(record)(**{name: getattr(record, name) for name in record.fields} | changes)
