"""One recurrent layer in ncnn's own format, which has no batch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lightrnn.graph import Array

GATES = {"LSTM": (0, 2, 1, 3), "GRU": (1, 0, 2), "RNN": (0,)}
"""For each of ncnn's gates (I F O G, R U N), its place among ONNX's."""
FEWER_BITS = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage")


def net(op: str, weights: Mapping[str, Array], threads: int) -> Any:
    """A float32 net of one layer, x [T, I] to y [T, directions · H].

    weights: W, R and B of an ONNX node; of a GRU with linear_before_reset.
    """
    made = import_module("ncnn").Net()
    made.opt.num_threads = threads
    for option in FEWER_BITS:
        setattr(made.opt, option, False)
    with TemporaryDirectory() as folder:
        param, data = Path(folder) / "layer.param", Path(folder) / "layer.bin"
        param.write_text(_graph(op, weights))
        data.write_bytes(_numbers(op, weights))
        failed = made.load_param(str(param)) or made.load_model(str(data))
    assert not failed, "ncnn does not read its own format"
    return made


def _graph(op: str, weights: Mapping[str, Array]) -> str:
    """The text form: an input and a layer, whose parameters are H, W's size and the direction."""
    directions, _, hidden = weights["R"].shape
    kind = 2 if directions == 2 else 0
    layer = f"{op} layer 1 1 x y 0={hidden} 1={weights['W'].size} 2={kind}"
    return f"7767517\n2 2\nInput x 0 1 x\n{layer}\n"


def _numbers(op: str, weights: Mapping[str, Array]) -> bytes:
    """W, biases and R, each after a word that says float32."""
    arrays = [_gates(op, weights["W"]), _biases(op, weights["B"]), _gates(op, weights["R"])]
    plain = bytes(4)
    return b"".join(plain + np.asarray(a, np.float32).tobytes() for a in arrays)


def _gates(op: str, rows: Array) -> Array:
    """[directions, gates · H, ...] in ncnn's order of gates: [directions, gates, H, ...]."""
    order = GATES[op]
    directions, height = rows.shape[:2]
    return rows.reshape(directions, len(order), height // len(order), *rows.shape[2:])[:, order]


def _biases(op: str, both: Array) -> Array:
    """Input and recurrent biases added up, but for a GRU's new gate, which keeps both."""
    ours, theirs = (_gates(op, half) for half in np.split(both, 2, axis=1))
    if op != "GRU":
        return ours + theirs
    gates = ours[:, :2] + theirs[:, :2]
    return np.concatenate([gates, ours[:, 2:], theirs[:, 2:]], axis=1)
