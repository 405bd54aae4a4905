"""A torch module run on arrays by name, in evaluation mode and left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError
from lightrnn.graph import Array
from lightrnn_converters.optional import require
from lightrnn_converters.verify import ReferenceFailedError


class TorchReference:
    """Calls a module on feeds. Raises ReferenceFailedError where the module raises.

    inputs: names of the tensors among the leaves of (args, kwargs), in order.
    outputs: names of the tensors that it returns, in order.
    example: (args, kwargs) whose structure a call is given; by default the inputs one by one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
        example: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
    ) -> None:
        torch = require("torch")
        if example is None:
            example = (tuple(torch.zeros(()) for _ in inputs), {})
        self._function = function
        self._inputs, self._outputs = list(inputs), list(outputs)
        self._leaves, self._spec = torch.utils._pytree.tree_flatten(example)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        torch = require("torch")
        names = iter(self._inputs)
        leaves = [
            torch.from_numpy(np.array(feeds[next(names)])) if isinstance(x, torch.Tensor) else x
            for x in self._leaves
        ]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self._spec)
        try:
            with torch.no_grad(), evaluating(self._function):
                result = self._function(*args, **kwargs)
        except Exception as error:  # whatever the module raises
            raise ReferenceFailedError(f"{type(error).__name__}: {error}") from None
        arrays = [_array(x) for x in torch.utils._pytree.tree_leaves(result) if x is not None]
        if len(arrays) != len(self._outputs):
            raise ConversionError(
                f"the reference returns {len(arrays)} tensors, expected {len(self._outputs)}"
            )
        return dict(zip(self._outputs, arrays, strict=True))


def _array(leaf: Any) -> Array:
    return np.asarray(leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else leaf)


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Put a module in evaluation mode and leave each submodule in its own mode afterwards."""
    modules = list(module.modules()) if hasattr(module, "modules") else []
    modes = [m.training for m in modules]
    for m in modules:
        m.training = False
    try:
        yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode
