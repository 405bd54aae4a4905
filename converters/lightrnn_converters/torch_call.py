"""What a torch module is called with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError
from lightrnn.graph import DTYPES, Array


@dataclass(frozen=True)
class Call:
    """Arguments of a module, those of an example.

    lists: places among all leaves of the arguments where the module is given a list of numbers;
    torch.export, which would take their values for constants, is given a tensor.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    lists: frozenset[int] = frozenset()

    def tensors(self, torch: Any) -> list[Any]:
        """The tensors among the arguments, in order."""
        leaves = torch.utils._pytree.tree_leaves((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def arrays(self, torch: Any) -> list[Array]:
        """The same as arrays."""
        return [np.asarray(t.detach().cpu().numpy()) for t in self.tensors(torch)]

    def filled(self, torch: Any, arrays: Iterator[Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments for the module, with other values for the tensors."""
        leaves, spec = torch.utils._pytree.tree_flatten((self.args, self.kwargs))
        for k, leaf in enumerate(leaves):
            if isinstance(leaf, torch.Tensor):
                value = torch.from_numpy(np.array(next(arrays)))
                leaves[k] = value.tolist() if k in self.lists else value
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, spec)
        return args, kwargs

    def moved(self, torch: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A call with the same tensors in other places."""
        old = torch.utils._pytree.tree_leaves((self.args, self.kwargs))
        made = [old[k] for k in self.lists]
        leaves = torch.utils._pytree.tree_leaves((args, kwargs))
        return Call(args, kwargs, _places(leaves, made))


def _places(leaves: Sequence[Any], wanted: Sequence[Any]) -> frozenset[int]:
    return frozenset(k for k, leaf in enumerate(leaves) if any(leaf is w for w in wanted))


def bound_arguments(module: Any, call: Call) -> inspect.BoundArguments:
    """The arguments of a call by name. Raises ConversionError where they do not fit."""
    try:
        return inspect.signature(module.forward).bind(*call.args, **call.kwargs)
    except TypeError as error:
        raise ConversionError(f"example_inputs do not fit the module: {error}") from None


def check_module(torch: Any, module: Any) -> None:
    """Raise ConversionError for anything but a module that torch.export may take."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ConversionError("the module is TorchScript: convert the nn.Module it was made of")
    if not isinstance(module, torch.nn.Module):
        raise ConversionError(f"cannot convert a {type(module).__name__}, expected a module")


def check_tensors(torch: Any, module: Any, call: Call) -> None:
    """Raise ConversionError for tensors of types that graphs lack, or that lie elsewhere."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    tensors += [(f"input {k}", t) for k, t in enumerate(call.tensors(torch))]
    for name, tensor in tensors:
        dtype = str(tensor.dtype).removeprefix("torch.")
        if tensor.device.type != "cpu":
            raise ConversionError(
                f"tensor {name!r} is on {tensor.device}: move the module and its example to the CPU"
            )
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            raise ConversionError(f"tensor {name!r} is not a plain tensor, but {tensor.layout}")
        if dtype not in DTYPES:
            raise ConversionError(
                f"tensor {name!r} is {dtype}, which is not computed with: convert the module in "
                "float32, with module.float(); dtype='bfloat16' and others store its weights so"
            )


def example_call(torch: Any, module: Any, given: Any) -> Call:
    """A call from a tensor, a tuple of positional arguments or a mapping of keyword arguments.

    An exported program has an example of its own, where none is given.
    """
    program = isinstance(module, torch.export.ExportedProgram)
    if program and module.example_inputs and not len(given):
        args, kwargs = module.example_inputs
        return Call(tuple(args), dict(kwargs))
    made: list[Any] = []
    if isinstance(given, torch.Tensor):
        args, kwargs = (given,), {}
    elif isinstance(given, Mapping):
        args, kwargs = (), dict(given)
    elif type(given) in (tuple, list):
        args, kwargs = tuple(given), {}
    else:
        raise ConversionError(
            f"example_inputs is a {type(given).__name__}, expected a tensor, a tuple of arguments "
            "or a mapping of keyword arguments"
        )
    args, kwargs = _apart(torch, _with_tensors(torch, (args, kwargs), made))
    for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, np.ndarray):
            raise ConversionError("example_inputs hold a NumPy array: pass torch.from_numpy of it")
    if not program:
        known = bound_arguments(module, Call(args, kwargs)).arguments
        kwargs = {n: kwargs[n] for n in (*(n for n in known if n in kwargs), *kwargs)}
    return Call(args, kwargs, _places(torch.utils._pytree.tree_leaves((args, kwargs)), made))


def _apart(torch: Any, value: Any) -> Any:
    """A value in which no tensor comes twice: torch.export would make one input of the two."""
    leaves, spec = torch.utils._pytree.tree_flatten(value)
    for k, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor) and any(leaf is other for other in leaves[:k]):
            leaves[k] = leaf.detach().clone()
    return torch.utils._pytree.tree_unflatten(leaves, spec)


def _with_tensors(torch: Any, value: Any, made: list[Any]) -> Any:
    """A value with tensors, added to `made`, for its lists of integers."""
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        raise ConversionError(
            "example_inputs hold a PackedSequence: wrap the module in one that takes the padded "
            "tensor and the lengths, and packs them in its forward"
        )
    if type(value) is list and value and all(type(v) is int for v in value):
        made.append(torch.tensor(value))
        return made[-1]
    if type(value) in (list, tuple):
        return type(value)(_with_tensors(torch, v, made) for v in value)
    if type(value) is dict:
        return {k: _with_tensors(torch, v, made) for k, v in value.items()}
    return value
