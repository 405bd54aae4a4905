"""State that a torch module keeps in its attributes, as inputs and outputs of its graph.

A module that sets `self.hidden` or writes to a buffer while it runs computes something else at the
next call. Such attributes are found by running it, and a module around it takes their values as
arguments and returns what they are afterwards.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from lightrnn.errors import ConversionError, UnsupportedError
from lightrnn_converters.optional import first_line
from lightrnn_converters.torch_call import Call
from lightrnn_converters.torch_untouched import evaluating

_OWN = frozenset({
    "_parameters", "_modules", "_buffers", "_non_persistent_buffers_set", "training",
    "_flat_weights", "_flat_weight_refs",
})  # fmt: skip
"""Attributes that torch's modules keep for themselves."""


@dataclass(frozen=True)
class Slot:
    """One attribute that holds state.

    path: of the submodule; "" for the module itself. before, after: its value before and after a
    call: a tensor, None, or tuples, lists and dicts of them.
    """

    path: str
    attribute: str
    before: Any
    after: Any

    @property
    def name(self) -> str:
        return "_".join([*self.path.split("."), self.attribute]).lstrip("_")


def find(torch: Any, module: Any, call: Call) -> list[Slot]:
    """The attributes that hold other tensors after a call.

    Raises ConversionError where the module does not run.
    """
    args, kwargs = call.filled(torch, iter(call.arrays(torch)))
    owners = dict(module.named_modules())
    with evaluating(module), torch.no_grad():
        before = {path: _attributes(owner) for path, owner in owners.items()}
        marks = {p: {n: _marks(torch, v) for n, v in a.items()} for p, a in before.items()}
        try:
            module(*args, **kwargs)
        except Exception as error:
            raise ConversionError(
                f"the module does not run on its example: {type(error).__name__}: "
                f"{first_line(error)}"
            ) from error
        slots = []
        for path, owner in owners.items():
            for name, value in _attributes(owner).items():
                is_new = _marks(torch, value) != marks[path].get(name)
                if is_new and _leaves(torch, value) and not _is_parameter(torch, value):
                    kept = torch.utils._pytree.tree_map(_copy, value)
                    slots.append(Slot(path, name, before[path].get(name), kept))
    return slots


def _attributes(module: Any) -> dict[str, Any]:
    own = {n: v for n, v in vars(module).items() if n not in _OWN}
    return {**own, **module._buffers}


def _leaves(torch: Any, value: Any) -> list[Any]:
    """The tensors that a value is made of; none where it holds anything else but None."""
    leaves = torch.utils._pytree.tree_leaves(value)
    if not all(leaf is None or isinstance(leaf, torch.Tensor) for leaf in leaves):
        return []
    return [leaf for leaf in leaves if leaf is not None]


def _is_parameter(torch: Any, value: Any) -> bool:
    return any(isinstance(leaf, torch.nn.Parameter) for leaf in _leaves(torch, value))


def _marks(torch: Any, value: Any) -> list[tuple[int, int]]:
    """What differs where a value was set anew or written to. Values must stay alive meanwhile."""
    return [(id(leaf), leaf._version) for leaf in _leaves(torch, value)]


def _copy(leaf: Any) -> Any:
    return None if leaf is None else leaf.detach().clone()


def names(torch: Any, slots: Sequence[Slot]) -> list[str]:
    """A name for each tensor of the state."""
    found = []
    for slot in slots:
        count = len(_leaves(torch, slot.after))
        found += [slot.name] if count == 1 else [f"{slot.name}_{k}" for k in range(count)]
    return found


def tensors_of(torch: Any, slots: Sequence[Slot]) -> list[Any]:
    """The tensors that the state is made of, as they are after a call."""
    return [leaf for slot in slots for leaf in _leaves(torch, slot.after)]


def check_start(torch: Any, slots: Sequence[Slot], states: Set[str]) -> None:
    """Raise ConversionError for a state that does not start as nothing or as zeros.

    states: names of the tensors that matter.
    """
    for slot in slots:
        if states.isdisjoint(names(torch, [slot])):
            continue
        if any(bool(leaf.count_nonzero()) for leaf in _leaves(torch, slot.before)):
            where = f"{slot.path}.{slot.attribute}".lstrip(".")
            raise ConversionError(
                f"the module changes its attribute {where!r} when it runs, so that it is a state, "
                "and states start as zeros: set it to zeros or None before the conversion"
            )


def carrying(torch: Any, module: Any, slots: Sequence[Slot], bound: inspect.BoundArguments) -> Any:
    """A module that is called with the arguments by name and the tensors of the state.

    It returns what `module` returns and the state after that, and leaves `module` as it was.
    """
    return _class(torch)(module, slots, bound)


@functools.cache
def _class(torch: Any) -> Any:
    class Carrying(torch.nn.Module):  # type: ignore[misc]
        def __init__(
            self, module: Any, slots: Sequence[Slot], bound: inspect.BoundArguments
        ) -> None:
            super().__init__()
            self.module = module
            self.slots, self.bound = slots, bound

        def forward(self, arguments: dict[str, Any], states: list[Any]) -> tuple[Any, list[Any]]:
            owners = dict(self.module.named_modules())
            saved = [_value(owners[s.path], s.attribute) for s in self.slots]
            given = iter(states)
            for slot in self.slots:
                setattr(owners[slot.path], slot.attribute, _filled(torch, slot, given))
            try:
                bound = inspect.BoundArguments(self.bound.signature, dict(arguments))
                result = self.module(*bound.args, **bound.kwargs)
                after = [_kept(torch, s, getattr(owners[s.path], s.attribute)) for s in self.slots]
            finally:
                for slot, value in zip(self.slots, saved, strict=True):
                    _put_back(owners[slot.path], slot.attribute, value)
            return result, [leaf for leaves in after for leaf in leaves]

    return Carrying


_MISSING = object()


def _value(owner: Any, attribute: str) -> Any:
    return getattr(owner, attribute, _MISSING)


def _put_back(owner: Any, attribute: str, value: Any) -> None:
    if value is _MISSING:
        delattr(owner, attribute)
    else:
        setattr(owner, attribute, value)


def _filled(torch: Any, slot: Slot, given: Iterator[Any]) -> Any:
    """An attribute's value of copies of the tensors given, which the module may write to."""
    pytree = torch.utils._pytree
    leaves, spec = pytree.tree_flatten(slot.after)
    own = [None if leaf is None else next(given).clone() for leaf in leaves]
    return pytree.tree_unflatten(own, spec)


def _kept(torch: Any, slot: Slot, value: Any) -> list[Any]:
    found = _leaves(torch, value)
    if len(found) != len(_leaves(torch, slot.after)):
        raise UnsupportedError(
            f"attribute {slot.attribute!r} of the module holds more at every call; return it"
        )
    return found
