"""The activation functions that ONNX names for RNN, GRU and LSTM (their texts, opset 22)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Function = Callable[[Any], Any]

ALPHA = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "HardSigmoid": 0.2, "Elu": 1.0}
BETA = {"HardSigmoid": 0.5}
"""Defaults, those of the ONNX operators of these names."""
TAKE_ALPHA = {*ALPHA, "Affine", "ScaledTanh"}
TAKE_BETA = {*BETA, "Affine", "ScaledTanh"}


def activation(name: str, alpha: float | None, beta: float | None) -> Function:
    """One function; alpha and beta are None where it takes none."""
    a: Any = alpha
    b: Any = beta
    functions: dict[str, Function] = {
        "Relu": lambda x: np.maximum(x, 0),
        "Tanh": np.tanh,
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Affine": lambda x: a * x + b,
        "LeakyRelu": lambda x: np.where(x >= 0, x, a * x),
        "ThresholdedRelu": lambda x: np.where(np.isnan(x) | (x >= a), x, 0),
        "ScaledTanh": lambda x: a * np.tanh(b * x),
        "HardSigmoid": lambda x: np.minimum(np.maximum(a * x + b, 0), 1),
        "Elu": lambda x: np.where(x >= 0, x, a * np.expm1(x)),
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "Softplus": lambda x: np.logaddexp(0, x),
    }
    return functions[name]


def activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[Function]:
    """Functions in order; each that takes an alpha or beta consumes the next, else its default."""
    left_alphas, left_betas = list(alphas), list(betas)
    found = []
    for name in names:
        alpha, beta = ALPHA.get(name), BETA.get(name)
        if name in TAKE_ALPHA and left_alphas:
            alpha = left_alphas.pop(0)
        if name in TAKE_BETA and left_betas:
            beta = left_betas.pop(0)
        found.append(activation(name, alpha, beta))
    return found


def clipped(x: Any, clip: float | None) -> Any:
    """x within [-clip, clip]: the input of a gate's activation."""
    return x if clip is None else np.clip(x, -clip, clip)
