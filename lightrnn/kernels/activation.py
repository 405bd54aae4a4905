"""The activation functions that ONNX names for recurrent operators, chosen by code."""

from __future__ import annotations

from numba import types

from lightrnn.kernels.intrinsic import F16, inlined, outlined
from lightrnn.kernels.simd import absolute, fma, maximum, minimum, select, splat
from lightrnn.kernels.vmath import expm1_negative, sigmoid, softplus, tanh
from lightrnn.native.abi import ACTIVATIONS

SIGMOID, TANH, RELU = (ACTIVATIONS.index(n) for n in ("Sigmoid", "Tanh", "Relu"))
_AFFINE, _LEAKY, _THRESHOLDED = (
    ACTIVATIONS.index(n) for n in ("Affine", "LeakyRelu", "ThresholdedRelu")
)
_SCALED_TANH, _HARD_SIGMOID, _ELU = (
    ACTIVATIONS.index(n) for n in ("ScaledTanh", "HardSigmoid", "Elu")
)
_SOFTSIGN = ACTIVATIONS.index("Softsign")


@inlined
def activate(code, alpha, beta, x):
    """Activation `code` (its place in abi.ACTIVATIONS) of 16 lanes."""
    if code == SIGMOID:
        return sigmoid(x)
    if code == TANH:
        return tanh(x)
    return rare_activation(code, splat(alpha), splat(beta), x)


@outlined(F16, types.int64, F16, F16, F16)
def rare_activation(code, alpha, beta, x):
    """Activation `code` of 16 lanes, other than sigmoid and tanh."""
    zero, one = splat(0.0), splat(1.0)
    if code == RELU:
        return maximum(x, zero)
    if code == _AFFINE:
        return fma(alpha, x, beta)
    if code == _LEAKY:
        return select(x < zero, alpha * x, x)
    if code == _THRESHOLDED:
        return select(x < alpha, zero, x)
    if code == _SCALED_TANH:
        return alpha * tanh(beta * x)
    if code == _HARD_SIGMOID:
        return maximum(minimum(fma(alpha, x, beta), one), zero)
    if code == _ELU:
        return select(x < zero, alpha * expm1_negative(x), x)
    if code == _SOFTSIGN:
        return x / (one + absolute(x))
    return softplus(x)
