"""Read the JSON objects of a model file's `text`, each field checked and taken once."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from lightrnn.errors import TextError
from lightrnn.graph import FLOAT32, INT32, INT64, TensorType

S = TypeVar("S", bound=str)

_REQUIRED = object()
_JSON_NAMES = {
    str: "a string", bool: "true or false", int: "a whole number", float: "a number",
    list: "a list", Mapping: "an object", type(None): "null",
}  # fmt: skip


class Fields:
    """The fields of a JSON object, each taken once; what is left over is not understood."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, Mapping):
            raise TextError(f"{what} is {short(value)}, expected an object")
        self._left = dict(value)
        self.what = what

    def take(self, name: str, *kinds: Any, default: Any = _REQUIRED) -> Any:
        """A field of one of these types. Raises TextError."""
        value = self._left.pop(name, default)
        if value is _REQUIRED:
            raise TextError(f"{self.what} lacks {name!r}")
        is_bool = isinstance(value, bool)
        fits = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
        if value is not default and (not fits or (is_bool and bool not in kinds)):
            expected = " or ".join(_JSON_NAMES[k] for k in kinds)
            raise TextError(f"{name!r} of {self.what} is {short(value)}, expected {expected}")
        return value

    def optional(self, name: str, kind: Any) -> Any:
        """A field that may be null or left out, which is None."""
        return self.take(name, kind, type(None), default=None)

    def number(self, name: str, low: int, *, default: Any = _REQUIRED) -> Any:
        """A whole number from `low` below 2**31, or the default."""
        value = self.take(name, int, default=default)
        if value is not default and not low <= value < 2**31:
            raise TextError(f"{name!r} of {self.what} is {value}, expected {low} or more")
        return value

    def one_of(self, name: str, known: tuple[S, ...], *, default: Any = _REQUIRED) -> S:
        """A string out of a few."""
        value = self.take(name, str, default=default)
        for one in known:
            if one == value:
                return one
        if value is default:
            return value
        listed = " or ".join(map(repr, known))
        raise TextError(f"{name!r} of {self.what} is {value!r}, expected {listed}")

    def strings(self, name: str, *, default: Any = _REQUIRED) -> tuple[str, ...]:
        """A list of different strings, none of them empty or with a control character."""
        value = self.take(name, list, default=default)
        if value is default:
            return tuple(value)
        if not value:
            raise TextError(f"{name!r} of {self.what} is empty")
        for k, item in enumerate(value):
            if not isinstance(item, str) or not item:
                raise TextError(
                    f"{name!r} of {self.what}: {k} is {short(item)}, "
                    "expected a string that is not empty"
                )
            if is_control(item):
                raise TextError(f"{name!r} of {self.what}: {item!r} holds a control character")
        if (twice := repeated(value)) is not None:
            raise TextError(f"{name!r} of {self.what} holds {twice!r} twice")
        return tuple(value)

    def finish(self) -> None:
        """Raise TextError if a field has not been taken."""
        if self._left:
            raise TextError(f"{self.what} has the unknown field {min(map(str, self._left))!r}")


def is_control(text: str) -> bool:
    """Whether a text holds a control character, a line break or half of a surrogate pair."""
    return any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def repeated(items: Iterable[str]) -> str | None:
    """The first item that occurs a second time."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def short(value: Any) -> str:
    """A value as a message shows it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def tensor(
    types: Mapping[str, TensorType],
    name: str,
    ranks: Sequence[int],
    what: str,
    dtypes: Sequence[np.dtype[Any]] = (),
) -> TensorType:
    """An input or output (`what`) of a graph, its rank and dtype such as text needs.

    dtypes: by default int64 or int32 of inputs, float32 of outputs. Raises TextError.
    """
    kind = types.get(name)
    if kind is None:
        raise TextError(f"no {what} {name!r}, the graph has {', '.join(types) or 'none'}")
    if kind.rank is not None and kind.rank not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise TextError(f"{what} {name!r} is {kind}, expected rank {wanted}")
    dtypes = dtypes or ((INT64, INT32) if what == "input" else (FLOAT32,))
    if kind.dtype not in dtypes:
        names = " or ".join(d.name for d in dtypes)
        raise TextError(f"{what} {name!r} is {kind}, expected {names}")
    return kind
