"""The activation functions that ONNX names for recurrent operators, chosen by code."""

from __future__ import annotations

from lightrnn.cuda.kernels.simt import (
    absolute,
    as_float,
    expm1,
    inlined,
    maximum,
    minimum,
    sigmoid,
    single,
    softplus,
    tanh,
)
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
    """Activation `code` (its place in abi.ACTIVATIONS); alpha, beta and x are float32."""
    zero, one = single(0.0), single(1.0)
    if code == SIGMOID:
        return sigmoid(x)
    if code == TANH:
        return tanh(x)
    if code == RELU:
        return maximum(x, zero)
    if code == _AFFINE:
        return alpha * x + beta
    if code == _LEAKY:
        return alpha * x if x < zero else x
    if code == _THRESHOLDED:
        return zero if x < alpha else x
    if code == _SCALED_TANH:
        return alpha * tanh(beta * x)
    if code == _HARD_SIGMOID:
        return maximum(minimum(alpha * x + beta, one), zero)
    if code == _ELU:
        return alpha * expm1(x) if x < zero else x
    if code == _SOFTSIGN:
        return x / (one + absolute(x))
    return softplus(x)


@inlined
def apply(activations, k, x):
    """Activation number k of a direction's words: code, alpha, beta."""
    alpha = single(as_float(activations[3 * k + 1]))
    beta = single(as_float(activations[3 * k + 2]))
    return activate(activations[3 * k], alpha, beta, x)


@inlined
def clipped(x, clip):
    """x within [-clip, clip]; clip 0 means no limit."""
    if clip > single(0.0):
        return maximum(minimum(x, clip), -clip)
    return x
