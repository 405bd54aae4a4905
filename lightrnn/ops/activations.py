"""The activation functions of recurrent operators: names, parameters, NumPy semantics."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import Array
from lightrnn.native.abi import ACTIVATIONS
from lightrnn.record import Record

_ALPHAS: dict[str, float | None] = {
    "Affine": None, "LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "ScaledTanh": None,
    "HardSigmoid": 0.2, "Elu": 1.0,
}  # fmt: skip
_BETAS: dict[str, float | None] = {"Affine": None, "ScaledTanh": None, "HardSigmoid": 0.5}
"""The functions that take an alpha or beta, with the default of the ONNX operator of that name;
None where ONNX has no such operator.
"""


class Activation(Record):
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

    names: ONNX's, in any case.

    Raises UnsupportedError for an unknown name, GraphError for a parameter that nobody takes, or
    that is left out where ONNX gives no default.
    """
    known = {name.lower(): name for name in ACTIVATIONS}
    for given in names:
        if given.lower() not in known:
            raise UnsupportedError(
                f"activation {given!r} is not supported, expected one of {', '.join(ACTIVATIONS)}"
            )
    found = [known[given.lower()] for given in names]
    return tuple(
        map(
            Activation,
            found,
            _parameters(found, alphas, _ALPHAS, "activation_alpha"),
            _parameters(found, betas, _BETAS, "activation_beta"),
        )
    )


def _parameters(
    names: Sequence[str], given: Sequence[float], defaults: dict[str, float | None], what: str
) -> list[float]:
    """The parameter of each function; 0 for those that take none."""
    left = list(given)
    values = []
    for name in names:
        value: float | None = 0.0
        if name in defaults:
            value = left.pop(0) if left else defaults[name]
        if value is None:
            raise GraphError(f"{what} of {name} is missing: it has no default")
        values.append(value)
    if left:
        taken = len(given) - len(left)
        raise GraphError(f"{len(given)} values of {what}, the activations take {taken}")
    return values


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
