"""Inputs of numbers instead of text: the frames of a recording, the points of a pen."""

from __future__ import annotations

import numpy as np

from lightrnn.errors import TextError
from lightrnn.graph import FLOAT32, Array, Graph
from lightrnn.text.fields import short, tensor
from lightrnn.text.tasks.base import RowsInput


class FeaturesInput(RowsInput):
    """The inputs that features go to: float32 [N, T, F], and lengths [N] where it takes them."""

    def __init__(self, graph: Graph, features: str, lengths: str | None) -> None:
        """Raises TextError where the graph does not have such inputs."""
        kind = tensor(graph.inputs, features, (3,), "input", (FLOAT32,))
        _, steps, width = kind.shape or (None, None, None)
        if not isinstance(width, int):
            raise TextError(f"input {features!r} is {kind}, expected a known number of features")
        super().__init__(graph, features, kind, lengths, steps if isinstance(steps, int) else None)
        self._width = (width,)

    def row(self, item: Array, index: int) -> Array:
        """A copy of item number `index`, checked: float32 [T, F]. Raises TextError."""
        (width,) = self._width
        if item.dtype != FLOAT32 or item.ndim != 2 or item.shape[1] != width:
            raise TextError(
                f"item {index} is {item.dtype} of shape {short(item.shape)}, "
                f"expected float32 of shape (T, {width})"
            )
        if self._longest is not None and len(item) > self._longest:
            raise TextError(f"item {index} has {len(item)} rows, the model takes {self._longest}")
        copy: Array = np.array(item)
        return copy
