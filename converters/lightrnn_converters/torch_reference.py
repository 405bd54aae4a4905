"""A torch module run on arrays by name, in evaluation mode and left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError
from lightrnn.graph import Array
from lightrnn_converters.optional import require
from lightrnn_converters.torch_call import Call
from lightrnn_converters.torch_untouched import evaluating
from lightrnn_converters.verify import ReferenceFailedError


class TorchReference:
    """Calls a module on feeds. Raises ReferenceFailedError where the module raises.

    inputs: names of the tensors among the arguments of `call`, in order.
    outputs: names of the tensors that the module returns, in order.
    call: the form of a call; by default the inputs one by one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
        call: Call | None = None,
    ) -> None:
        self._torch = require("torch")
        self._function = function
        self.inputs, self._outputs = list(inputs), list(outputs)
        self._call = call or Call(tuple(self._torch.zeros(()) for _ in inputs), {})

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return next(self.in_a_row([feeds]))

    def in_a_row(self, calls: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
        """The outputs of several calls, of which each finds the module as the last one left it."""
        with evaluating(self._function):
            for feeds in calls:
                yield self._once(feeds)

    def _once(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        torch = self._torch
        args, kwargs = self._call.filled(torch, iter([feeds[name] for name in self.inputs]))
        try:
            with torch.no_grad():
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
