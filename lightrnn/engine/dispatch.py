"""The short way from a caller's arrays to results, written out for a number of tensors.

A run of a small model takes a few microseconds, of which loops over its inputs and outputs would be
a good part. So the functions here are source code made for names and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lightrnn.engine.copies import is_kept
from lightrnn.graph import Array

if TYPE_CHECKING:
    from lightrnn.engine.arena import Arena, Frame

Results: TypeAlias = dict[str, Any]
"""Arrays by name."""
Carry: TypeAlias = tuple[Array, Array]
"""Memory that is overwritten after a run, and what with."""


class Calls:
    """Functions that run what ran before, by key.

    latest: the key and the function that were added or found last, compared before all others.
    """

    __slots__ = ("_known", "latest")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all of them."""
        self._known: dict[Hashable, Callable[..., Results]] = {}
        self.latest: tuple[Hashable, Callable[..., Results] | None] = (None, None)

    def add(self, key: Hashable, call: Callable[..., Results]) -> None:
        """Remember a function."""
        self._known[key] = call
        self.latest = key, call

    def find(self, key: Hashable) -> Callable[..., Results] | None:
        """The function of a key, or None."""
        call = self._known.get(key)
        if call is not None:
            self.latest = key, call
        return call

    def __len__(self) -> int:
        return len(self._known)


def frame_call(
    frame: Frame,
    native: Callable[[], int],
    fail: Callable[[Frame], None],
    inputs: int | None = None,
    outputs: int | None = None,
    carry: Carry | None = None,
) -> Callable[..., Results]:
    """A function of a plan's inputs in order, of exactly its types, for a plan of one short call.

    native: runs the frame and returns its status. fail: raises for one that is not zero. inputs,
    outputs: how many of the first ones are the caller's, by default all.
    """
    places, names = frame.inputs[:inputs], frame.plan.names[:outputs]
    pointed = frame.plan.input_words
    large = tuple(is_kept(place) or words is not None for place, words in zip(places, pointed))  # noqa: B905
    make = _frame_source(large, names, carry is not None)
    targets = [frame.fills[k] if large[k] else place for k, place in enumerate(places)]
    copies = frame.copies[:outputs]
    call: Callable[..., Results] = make(frame, native, fail, targets, copies, *(carry or ()))
    return call


@cache
def _frame_source(large: tuple[bool, ...], names: tuple[str, ...], carries: bool) -> Any:
    count = len(large)
    arrays = [f"a{k}" for k in range(count)]
    results = ", ".join(f"{name!r}: copy{k}()" for k, name in enumerate(names))
    return _compiled(
        "def make(frame, native, fail, inputs, copies, before=None, after=None):",
        f"    [{', '.join(f'i{k}' for k in range(count))}] = inputs",
        f"    [{', '.join(f'copy{k}' for k in range(len(names)))}] = copies",
        f"    def call({', '.join(arrays)}):",
        *(f"        i{k}(a{k})" if large[k] else f"        i{k}[...] = a{k}" for k in range(count)),
        "        if native():",
        "            fail(frame)",
        *(["        before[...] = after"] if carries else []),
        f"        return {{{results}}}",
        "    return call",
    )


def signature_call(
    names: Sequence[str],
    dtypes: Sequence[np.dtype[Any]],
    owner: Hashable,
    arenas: list[Arena],
    otherwise: Callable[[Mapping[str, Any]], Results],
) -> Callable[[Mapping[str, Any]], Results]:
    """A function of inputs by name that finds a call made by `frame_call`, in an arena of its own.

    owner: the prepared graph. otherwise: what runs for inputs of other types, names or shapes.
    """
    call: Callable[[Mapping[str, Any]], Results] = _signature_source(tuple(names))(
        list(dtypes), owner, arenas, otherwise
    )
    return call


@cache
def _signature_source(names: tuple[str, ...]) -> Any:
    numbers = range(len(names))
    arrays = ", ".join(f"a{k}" for k in numbers)
    return _compiled(
        "def make(dtypes, owner, arenas, otherwise):",
        f"    [{', '.join(f'd{k}' for k in numbers)}] = dtypes",
        "    def run(feeds):",
        "        try:",
        *(f"            a{k} = feeds[{name!r}]" for k, name in enumerate(names)),
        f"            key = (owner, {''.join(f'a{k}.shape, ' for k in numbers)})",
        f"            fits = {_fits(len(names))}",
        "            arena = arenas.pop()",
        "        except (KeyError, AttributeError, IndexError):",
        "            return otherwise(feeds)",
        "        try:",
        "            if fits:",
        "                calls = arena.calls",
        "                known, call = calls.latest",
        "                if key != known:",
        "                    call = calls.find(key)",
        "                if call is not None:",
        f"                    return call({arrays})",
        "        finally:",
        "            arenas.append(arena)",
        "        return otherwise(feeds)",
        "    return run",
    )


def session_call(
    names: Sequence[str],
    dtypes: Sequence[np.dtype[Any]],
    calls: Calls,
    otherwise: Callable[[Mapping[str, Any]], Results],
) -> Callable[[Mapping[str, Any]], Results]:
    """A function of inputs by name that finds a call by their shapes.

    otherwise: what runs for inputs of other types, names or shapes.
    """
    call: Callable[[Mapping[str, Any]], Results] = _session_source(tuple(names))(
        list(dtypes), calls, otherwise
    )
    return call


@cache
def _session_source(names: tuple[str, ...]) -> Any:
    numbers = range(len(names))
    return _compiled(
        "def make(dtypes, calls, otherwise):",
        f"    [{', '.join(f'd{k}' for k in numbers)}] = dtypes",
        "    def run(feeds):",
        "        try:",
        *(f"            a{k} = feeds[{name!r}]" for k, name in enumerate(names)),
        f"            key = ({''.join(f'a{k}.shape, ' for k in numbers)})",
        f"            fits = {_fits(len(names))}",
        "        except (KeyError, AttributeError):",
        "            return otherwise(feeds)",
        "        if fits:",
        "            known, call = calls.latest",
        "            if key != known:",
        "                call = calls.find(key)",
        "            if call is not None:",
        f"                return call({', '.join(f'a{k}' for k in numbers)})",
        "        return otherwise(feeds)",
        "    return run",
    )


def _fits(count: int) -> str:
    """The condition that there are so many inputs and that each is of its element type."""
    return " and ".join([f"len(feeds) == {count}", *(f"a{k}.dtype is d{k}" for k in range(count))])


def _compiled(*lines: str) -> Any:
    scope: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<lightrnn dispatch>", "exec"), scope)
    return scope["make"]
