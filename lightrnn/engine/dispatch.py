"""The short way from a caller's arrays to results, written out for a number of tensors.

A run of a small model takes a few microseconds, of which loops over its inputs and outputs would be
a good part. So the functions here are source code made for names and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lightrnn.graph import Array

if TYPE_CHECKING:
    from lightrnn.engine.arena import Arena, Frame

Results: TypeAlias = dict[str, Any]
"""Arrays by name."""
Carry: TypeAlias = tuple[Array, Array]
"""Memory that is overwritten after a run, and what with."""


def frame_call(
    frame: Frame,
    short: Callable[[int], None],
    fail: Callable[[Frame], None],
    inputs: int | None = None,
    outputs: int | None = None,
    carry: Carry | None = None,
) -> Callable[..., Results]:
    """A function of a plan's inputs in order, of exactly its types, for a plan of one short call.

    short: the executor. fail: raises for a frame whose status is not zero. inputs, outputs: how
    many of the first ones are the caller's, by default all.
    """
    places, names = frame.inputs[:inputs], frame.plan.names[:outputs]
    make = _frame_source(len(places), names, carry is not None)
    copies = [place.copy for place in frame.outputs[:outputs]]
    call: Callable[..., Results] = make(
        frame, frame.whole, frame.status, short, fail, places, copies, *(carry or ())
    )
    return call


@cache
def _frame_source(count: int, names: tuple[str, ...], carries: bool) -> Any:
    arrays = [f"a{k}" for k in range(count)]
    results = ", ".join(f"{name!r}: copy{k}()" for k, name in enumerate(names))
    return _compiled(
        "def make(frame, whole, status, short, fail, inputs, copies, before=None, after=None):",
        f"    [{', '.join(f'i{k}' for k in range(count))}] = inputs",
        f"    [{', '.join(f'copy{k}' for k in range(len(names)))}] = copies",
        f"    def call({', '.join(arrays)}):",
        *(f"        i{k}[...] = a{k}" for k in range(count)),
        "        short(whole)",
        "        if status[0]:",
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
        f"            fits = {_fits(len(names))}",
        f"            key = (owner, {''.join(f'a{k}.shape, ' for k in numbers)})",
        "            arena = arenas.pop()",
        "        except (KeyError, AttributeError, IndexError):",
        "            return otherwise(feeds)",
        "        try:",
        "            call = arena.calls.get(key)",
        "            if fits and call is not None:",
        f"                return call({arrays})",
        "        finally:",
        "            arenas.append(arena)",
        "        return otherwise(feeds)",
        "    return run",
    )


def session_call(
    names: Sequence[str],
    dtypes: Sequence[np.dtype[Any]],
    calls: Mapping[Hashable, Callable[..., Results]],
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
        f"            fits = {_fits(len(names))}",
        f"            call = calls.get(({''.join(f'a{k}.shape, ' for k in numbers)}))",
        "        except (KeyError, AttributeError):",
        "            return otherwise(feeds)",
        "        if fits and call is not None:",
        f"            return call({', '.join(f'a{k}' for k in numbers)})",
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
