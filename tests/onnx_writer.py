"""Write ONNX graphs as exporters do, for any opset: operators whose form changed take one here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lightrnn.graph import Array


@dataclass
class Writer:
    """A graph under construction. Every method adds nodes and returns the names of results.

    inline: write constants as Constant nodes rather than as initializers. prefix: of all names.
    """

    opset: int
    inline: bool = False
    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    def _name(self, hint: str) -> str:
        return f"{self.prefix}{hint}_{len(self.nodes) + len(self.initializers)}"

    def add(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        """One node; its one output, or a list of several."""
        names = [self._name(f"{op}{k}") for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attrs))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        array = np.asarray(value, dtype)
        name = self._name("c")
        tensor = numpy_helper.from_array(array, name)
        if self.inline:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def unsqueeze(self, x: str, *axes: int) -> Any:
        return self._axes("Unsqueeze", x, axes, 13)

    def squeeze(self, x: str, *axes: int) -> Any:
        return self._axes("Squeeze", x, axes, 13)

    def reduce(self, op: str, x: str, *axes: int, keepdims: int = 1) -> Any:
        return self._axes(op, x, axes, 13 if op == "ReduceSum" else 18, keepdims=keepdims)

    def _axes(self, op: str, x: str, axes: Sequence[int], since: int, **attrs: Any) -> Any:
        if self.opset < since:
            return self.add(op, x, axes=list(axes), **attrs)
        return self.add(op, x, self.ints(*axes), **attrs)

    def slice(self, x: str, axis: int, start: int, end: int, step: int = 1) -> Any:
        if self.opset < 10:
            assert step == 1
            return self.add("Slice", x, starts=[start], ends=[end], axes=[axis])
        bounds = [self.ints(v) for v in (start, end, axis)]
        return self.add("Slice", x, *bounds, *([] if step == 1 else [self.ints(step)]))

    def split(self, x: str, parts: int, axis: int) -> Any:
        attrs = {"num_outputs": parts} if self.opset >= 18 else {}
        return self.add("Split", x, outputs=parts, axis=axis, **attrs)

    def size(self, x: str, axis: int) -> Any:
        """One size of a tensor, as int64 [1]."""
        return self.slice(self.add("Shape", x), 0, axis, axis + 1)

    def filled(self, sizes: Sequence[Any], value: float, dtype: Any = np.float32) -> Any:
        """A tensor of one value; sizes are numbers or the names of int64 [1]."""
        parts = [s if isinstance(s, str) else self.ints(s) for s in sizes]
        shape = self.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
        if self.opset < 9:
            return self.add("Tile", self.constant(np.full([1] * len(parts), value), dtype), shape)
        fill = numpy_helper.from_array(np.array([value], dtype))
        return self.add("ConstantOfShape", shape, value=fill)

    def branch(self, result: str, name: str) -> Any:
        """The graph as a branch of an If."""
        last = helper.make_node("Identity", [result], [name])
        return helper.make_graph(
            [*self.nodes, last], name, [], [_value(name, None, {})], self.initializers
        )

    def body(
        self, inputs: Mapping[str, tuple[int, Any]], outputs: Mapping[str, tuple[str, int]]
    ) -> Any:
        """The graph as the body of a Loop.

        inputs: element types and shapes. outputs: name to the tensor that it is, and its type.
        """
        last = [helper.make_node("Identity", [s], [name]) for name, (s, _) in outputs.items()]
        return helper.make_graph(
            [*self.nodes, *last],
            f"{self.prefix}body",
            [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(n, kind, None) for n, (_, kind) in outputs.items()],
            self.initializers,
        )

    def model(
        self,
        inputs: Mapping[str, Sequence[int | str | None]],
        outputs: Mapping[str, str],
        declared: Mapping[str, Sequence[int | str]] | None = None,
        dtypes: Mapping[str, int] | None = None,
    ) -> Any:
        """The ModelProto.

        inputs: shapes by name. outputs: name to the tensor that it is. declared: output shapes.
        """
        shapes, kinds = declared or {}, dtypes or {}
        last = [helper.make_node("Identity", [source], [name]) for name, source in outputs.items()]
        graph = helper.make_graph(
            [*self.nodes, *last],
            "exported",
            [_value(n, shape, kinds) for n, shape in inputs.items()],
            [_value(n, shapes.get(n), kinds) for n in outputs],
            self.initializers,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )


def _value(name: str, shape: Any, kinds: Mapping[str, int]) -> Any:
    return helper.make_tensor_value_info(name, kinds.get(name, onnx.TensorProto.FLOAT), shape)


def weights(*shape: int, seed: int = 0) -> Array:
    """Seeded float32 weights that keep a recurrence lively and bounded."""
    values = np.random.default_rng((seed, *shape)).uniform(-0.6, 0.6, shape)
    return values.astype(np.float32)
