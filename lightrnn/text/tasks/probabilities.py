"""Scores of a model's last layer as probabilities."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from lightrnn.errors import DataError
from lightrnn.graph import Array

Scores: TypeAlias = Literal["logits", "probabilities"]
SCORES: tuple[Scores, ...] = ("logits", "probabilities")


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis, in float64; NaN where no logit is finite."""
    values = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: Array) -> Array:
    """1 / (1 + e**-x), in float64."""
    values = logits.astype(np.float64)
    small = np.exp(-np.abs(values))
    result: Array = np.where(values < 0, small, 1.0) / (1.0 + small)
    return result


def log_softmax(logits: Array) -> Array:
    """Logarithms of `softmax`, in float64."""
    values = logits.astype(np.float64)
    values = values - values.max(axis=-1, keepdims=True)
    result: Array = values - np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return result


def check_numbers(scores: Array, name: str) -> None:
    """Raise DataError if an output holds NaN or infinity, or rows of nothing but -infinity."""
    if not np.isfinite(scores.max(axis=-1)).all():
        raise DataError(f"output {name!r} holds values that are not numbers")
