"""What of a torch module is exported: itself, or a module around it that carries its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightrnn_converters import torch_state
from lightrnn_converters.torch_call import Call, bound_arguments
from lightrnn_converters.torch_names import Keys, leaf_names, output_name


@dataclass(frozen=True)
class Subject:
    """What torch exports, and the call that it is exported with.

    shapes: dynamic_shapes for it; None where all sizes may vary.
    inputs: names of the tensors of the call; None for those that torch gives them.
    slots: the attributes of the original module that hold its state, which come last among the
    inputs and the outputs.
    plain: where there are such, the call of the original module.
    """

    module: Any
    call: Call
    shapes: Any
    inputs: Sequence[str] | None = None
    slots: Sequence[torch_state.Slot] = ()
    plain: Call | None = None

    @property
    def original(self) -> Call:
        """The call of the original module."""
        return self.plain or self.call

    def states(self, torch: Any) -> dict[str, str]:
        """The inputs that hold the state, and the outputs that feed them."""
        return {name: f"{name}_out" for name in torch_state.names(torch, self.slots)}

    def output_names(self, torch: Any, keys: Sequence[Keys]) -> list[str]:
        """Names of the tensors that the module returns, given their places."""
        if not self.slots:
            return [output_name(k) for k in keys]
        own = [output_name(k[1:]) for k in keys if k[0] == "0"]
        return own + list(self.states(torch).values())


def subject_of(torch: Any, module: Any, call: Call, shapes: Any) -> Subject:
    """A module as it is, or with its state as arguments. Raises ConversionError."""
    slots = torch_state.find(torch, module, call)
    if not slots:
        return Subject(module, call, shapes)
    bound = bound_arguments(module, call)
    state = torch_state.tensors_of(torch, slots)
    return Subject(
        torch_state.carrying(torch, module, slots, bound),
        call.moved(torch, (dict(bound.arguments), state), {}),
        _outer_shapes(torch, shapes, bound.arguments, state),
        leaf_names(torch, bound.arguments) + torch_state.names(torch, slots),
        slots,
        call,
    )


def _outer_shapes(
    torch: Any, shapes: Any, arguments: Mapping[str, Any], state: Sequence[Any]
) -> Any:
    if shapes is None:
        return None
    named = shapes if isinstance(shapes, Mapping) else dict(zip(arguments, shapes, strict=False))
    free = [dict.fromkeys(range(t.dim()), torch.export.Dim.AUTO) for t in state]
    return {"arguments": {name: named.get(name) for name in arguments}, "states": free}
