"""The activation functions of recurrent operators: names, parameters, NumPy semantics."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lightrnn.errors import UnsupportedError
from lightrnn.graph import Array
from lightrnn.native.abi import ACTIVATIONS

_DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, None),
    "ThresholdedRelu": (1.0, None),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, None),
}
"""Alpha and beta where the model gives none; None where the function has no such parameter."""


class Activation(NamedTuple):
    """One activation function with its parameters."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, x: Array) -> Array:
        """The function of every element, in the dtype of x."""
        with np.errstate(all="ignore"):
            return np.asarray(_apply(self.name, x, self.alpha, self.beta), x.dtype)

    @property
    def words(self) -> tuple[int, int, int]:
        """Code, alpha and beta as a kernel reads them."""
        bits = struct.unpack("<qq", struct.pack("<dd", self.alpha, self.beta))
        return (ACTIVATIONS.index(self.name), *bits)


def parse(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> tuple[Activation, ...]:
    """Activations by ONNX's rule: each function takes the next alpha and beta if it has such.

    Raises UnsupportedError for an unknown name or parameters that nobody takes.
    """
    canonical = {name.lower(): name for name in ACTIVATIONS}
    left_a, left_b = list(alphas), list(betas)
    found = []
    for given in names:
        name = canonical.get(given.lower())
        if name is None:
            raise UnsupportedError(f"activation {given!r} is not supported")
        alpha, beta = _DEFAULTS.get(name, (None, None))
        if alpha is not None and left_a:
            alpha = left_a.pop(0)
        if beta is not None and left_b:
            beta = left_b.pop(0)
        found.append(Activation(name, alpha or 0.0, beta or 0.0))
    return tuple(found)


def _apply(name: str, x: Array, alpha: float, beta: float) -> Array:
    functions: dict[str, Callable[[], Any]] = {
        "Sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "Tanh": lambda: np.tanh(x),
        "Relu": lambda: np.maximum(x, 0),
        "Affine": lambda: alpha * x + beta,
        "LeakyRelu": lambda: np.where(x < 0, alpha * x, x),
        "ThresholdedRelu": lambda: np.where(x < alpha, 0, x),
        "ScaledTanh": lambda: alpha * np.tanh(beta * x),
        "HardSigmoid": lambda: np.maximum(np.minimum(alpha * x + beta, 1), 0),
        "Elu": lambda: np.where(x < 0, alpha * np.expm1(x), x),
        "Softsign": lambda: x / (1 + np.abs(x)),
        "Softplus": lambda: np.logaddexp(x, 0),
    }
    return np.asarray(functions[name]())
