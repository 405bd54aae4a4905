"""ONNX translations of torch's operators: of a recurrent layer one RNN, LSTM or GRU node.

torch's gates i f g o become ONNX's i o f c, and r z n become z r h with linear_before_reset=1.
Weights are put together by nodes whose inputs are constants, which folding removes. An LSTM with a
projection becomes `LSTM` of the domain "lightrnn", which has one more input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightrnn_converters.torch_attention import attention
from lightrnn_converters.torch_recurrent import operators

DOMAIN = "lightrnn"
"""The domain of nodes that only lightrnn reads."""

TORCH_OPSET = 18
"""The opset that torch's exporter writes its own translations in."""

_ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""For each ONNX gate, its place among torch's."""


@dataclass(frozen=True)
class _Stack:
    """The layers of one call. params: torch's flat weights."""

    op: Any
    kind: str
    params: Sequence[Any]
    has_biases: bool
    layers: int
    directions: int

    @property
    def projected(self) -> bool:
        return len(self.params) // (self.layers * self.directions) in (3, 5)

    def weights(self, layer: int) -> dict[str, Any]:
        """W, R, B and projection of one layer, by name; those that it has."""
        each = len(self.params) // (self.layers * self.directions)
        found: dict[str, list[Any]] = {}
        for d in range(self.directions):
            start = (layer * self.directions + d) * each
            for name, value in self._direction(self.params[start : start + each]):
                found.setdefault(name, []).append(self.op.Unsqueeze(value, self.ints(0)))
        return {name: self.joined(values) for name, values in found.items()}

    def _direction(self, params: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        yield "W", self.reordered(params[0])
        yield "R", self.reordered(params[1])
        if self.has_biases:
            biases = [self.reordered(p) for p in params[2:4]]
            yield "B", self.joined(biases)
        if self.projected:
            yield "projection", params[-1]

    def reordered(self, value: Any) -> Any:
        """Rows of all gates in ONNX's order."""
        order = _ORDERS[self.kind]
        if len(order) == 1:
            return value
        gates = self.op.Split(value, num_outputs=len(order), axis=0)
        return self.joined([gates[k] for k in order])

    def joined(self, values: Sequence[Any]) -> Any:
        return values[0] if len(values) == 1 else self.op.Concat(*values, axis=0)

    def ints(self, *values: int) -> Any:
        return self.op.Constant(value_ints=list(values))

    def start(self, states: Any, layer: int) -> Any:
        """One layer's initial state [D, N, S] out of all layers'."""
        if self.layers == 1:
            return states
        first = layer * self.directions
        last = first + self.directions
        return self.op.Slice(states, self.ints(first), self.ints(last), self.ints(0))

    def flat(self, y: Any) -> Any:
        """Y [T, D, N, S] as torch's output [T, N, D * S]."""
        if self.directions == 1:
            return self.op.Squeeze(y, self.ints(1))
        y = self.op.Transpose(y, perm=[0, 2, 1, 3])
        return self.op.Reshape(y, self.ints(0, 0, -1))


def _run(
    stack: _Stack, x: Any, starts: Sequence[Any], lengths: Any, attrs: dict[str, Any]
) -> tuple[Any, ...]:
    op = stack.op
    if lengths is not None:
        lengths = op.Cast(lengths, to=6)
    finals: list[list[Any]] = [[] for _ in starts]
    for layer in range(stack.layers):
        weights = stack.weights(layer)
        states = [stack.start(s, layer) for s in starts]
        inputs = [x, weights["W"], weights["R"], weights.get("B"), lengths, *states]
        if "projection" in weights:
            inputs += [None, weights["projection"]]
        node = getattr(_extension() if "projection" in weights else op, stack.kind)
        direction = "bidirectional" if stack.directions == 2 else "forward"
        y, *ends = node(*inputs, direction=direction, **attrs)
        x = stack.flat(y)
        for final, end in zip(finals, ends, strict=True):
            final.append(end)
    return x, *(stack.joined(final) for final in finals)


def _hidden(params: Sequence[Any], gates: int) -> int:
    return int(params[0].shape[0]) // gates


def _translate_lstm(
    x: Any, h0: Any, c0: Any, params: Any, lengths: Any, has_biases: bool, num_layers: int,
    bidirectional: bool,
) -> Any:  # fmt: skip
    stack = _Stack(_opset(), "LSTM", params, has_biases, num_layers, 1 + bool(bidirectional))
    return _run(stack, x, (h0, c0), lengths, {"hidden_size": _hidden(params, 4)})


def _translate_gru(
    x: Any, h0: Any, params: Any, lengths: Any, has_biases: bool, num_layers: int,
    bidirectional: bool,
) -> Any:  # fmt: skip
    stack = _Stack(_opset(), "GRU", params, has_biases, num_layers, 1 + bool(bidirectional))
    attrs = {"hidden_size": _hidden(params, 3), "linear_before_reset": 1}
    return _run(stack, x, (h0,), lengths, attrs)


def _translate_rnn(
    x: Any, h0: Any, params: Any, lengths: Any, has_biases: bool, num_layers: int,
    bidirectional: bool, relu: bool,
) -> Any:  # fmt: skip
    directions = 1 + bool(bidirectional)
    stack = _Stack(_opset(), "RNN", params, has_biases, num_layers, directions)
    activations = ["Relu" if relu else "Tanh"] * directions
    attrs = {"hidden_size": _hidden(params, 1), "activations": activations}
    return _run(stack, x, (h0,), lengths, attrs)


def _translate_unpad(y: Any, lengths: Any) -> Any:
    op = _opset()
    longest = op.ReduceMax(lengths, keepdims=1)
    zero = op.Constant(value_ints=[0])
    return op.Slice(y, zero, longest, zero)


def _opset() -> Any:
    import onnxscript

    return getattr(onnxscript, f"opset{TORCH_OPSET}")


@functools.cache
def _extension() -> Any:
    """The opset that holds our LSTM; its schema is registered on the first call."""
    from onnx.defs import OpSchema, get_schema, register_schema
    from onnxscript.values import Opset

    standard = get_schema("LSTM", 14, "")
    optional = OpSchema.FormalParameterOption.Optional
    projection = OpSchema.FormalParameter("projection", "T", "[D, S, H]", param_option=optional)
    register_schema(
        OpSchema(
            "LSTM", DOMAIN, 1,
            inputs=[*standard.inputs, projection],
            outputs=list(standard.outputs),
            type_constraints=[(c.type_param_str, list(c.allowed_type_strs), "")
                              for c in standard.type_constraints],
            attributes=[standard.attributes[name] for name in sorted(standard.attributes)],
        )
    )  # fmt: skip
    return Opset(DOMAIN, 1)


def _whole(kind: str, gates: int, attrs: dict[str, Any], states: int) -> Callable[..., Any]:
    """The translation of ATen's own operator, as programs hold it that others exported."""

    def translate(
        x: Any, hx: Any, params: Any, has_biases: bool, num_layers: int, dropout: float,
        train: bool, bidirectional: bool, batch_first: bool,
    ) -> Any:  # fmt: skip
        op = _opset()
        directions = 1 + bool(bidirectional)
        stack = _Stack(op, kind, params, has_biases, num_layers, directions)
        x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
        starts = tuple(hx) if states == 2 else (hx,)
        own = {k: v * directions if k == "activations" else v for k, v in attrs.items()}
        own["hidden_size"] = _hidden(params, gates)
        y, *finals = _run(stack, x, starts, None, own)
        return op.Transpose(y, perm=[1, 0, 2]) if batch_first else y, *finals

    return translate


def translations() -> dict[Any, Callable[..., Any]]:
    """What `torch.onnx.export` takes as custom_translation_table."""
    import torch

    ops, aten = operators(), torch.ops.aten
    return {
        aten.lstm.input: _whole("LSTM", 4, {}, 2),
        aten.gru.input: _whole("GRU", 3, {"linear_before_reset": 1}, 1),
        aten.rnn_tanh.input: _whole("RNN", 1, {"activations": ["Tanh"]}, 1),
        aten.rnn_relu.input: _whole("RNN", 1, {"activations": ["Relu"]}, 1),
        aten.scaled_dot_product_attention.default: attention(_opset()),
        ops.lstm.default: _translate_lstm,
        ops.gru.default: _translate_gru,
        ops.rnn.default: _translate_rnn,
        ops.unpad.default: _translate_unpad,
    }
