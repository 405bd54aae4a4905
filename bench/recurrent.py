"""Layers and steps of layers as subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.cells import Layer, Step
from bench.models import layer_onnx, weights_of
from bench.subject import Subject, evaluated
from lightrnn.graph import Array

TORCH_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""For each of torch's gates, its place among ONNX's."""


def layer(cell: Layer) -> Subject:
    """x [T, N, H] to y [T, directions, N, H]."""
    shape = cell.steps, cell.batch, cell.hidden
    weights = weights_of(cell.op, cell.hidden, cell.directions)
    return Subject(
        layer_onnx(cell.op, cell.hidden, directions=cell.directions),
        {"x": _normal(*shape)},
        ["y"],
        module=partial(torch_layer, cell.op, weights),
        layout=partial(_onnx_layout, cell.directions),
    )


def step(cell: Step) -> Subject:
    """x [1, 1, H] to y, with the states that its way wants."""
    states = {"h": "h_out", "c": "c_out"} if cell.op == "LSTM" else {"h": "h_out"}
    feeds, kept = {"x": _normal(1, 1, cell.hidden)}, cell.way != "run"
    if kept:
        feeds |= {name: np.zeros((1, 1, cell.hidden), np.float32) for name in states}
    return Subject(
        layer_onnx(cell.op, cell.hidden, states=kept),
        feeds,
        ["y", *(states.values() if kept else ())],
        carried=states if kept else {},
        streamed=cell.way == "stream",
    )


def torch_layer(op: str, weights: Mapping[str, Array]) -> Any:
    """torch's layer with the weights W, R and B of an ONNX node."""
    import torch

    directions, _, hidden = weights["R"].shape
    made = getattr(torch.nn, op)(hidden, hidden, bidirectional=directions == 2)
    order = list(TORCH_ORDER[op])

    def gates(rows: Array) -> Any:
        shaped = rows.reshape(len(order), hidden, *rows.shape[1:])[order]
        return torch.from_numpy(shaped.reshape(rows.shape).copy())

    with torch.no_grad():
        for d in range(directions):
            end, biases = "_reverse" * d, weights["B"][d].reshape(2, -1)
            for name, value in (
                ("weight_ih", weights["W"][d]), ("weight_hh", weights["R"][d]),
                ("bias_ih", biases[0]), ("bias_hh", biases[1]),
            ):  # fmt: skip
                getattr(made, f"{name}_l0{end}").copy_(gates(value))
    return made


def rounded(subject: Subject, op: str, weights: Mapping[str, Array]) -> Array:
    """y in float64 for weights as they are stored: what their rounding alone does to it."""
    own = {name: np.asarray(weights[name], np.float32) for name in ("W", "R", "B")}
    return evaluated(torch_layer(op, own), subject.feeds, subject.layout)[0]


def _onnx_layout(directions: int, found: Sequence[Array]) -> list[Array]:
    y = found[0]
    steps, batch, width = y.shape
    return [y.reshape(steps, batch, directions, width // directions).transpose(0, 2, 1, 3)]


def _normal(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)
