"""Draw the next token from scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightrnn.errors import InputError
from lightrnn.graph import Array
from lightrnn.text.tasks.probabilities import softmax


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    temperature: divides the logits; 0 takes the most likely token. top_k: draw from that many,
    0 for all. top_p: draw from the fewest tokens whose probabilities reach this together
    (https://arxiv.org/abs/1904.09751).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}, expected 0 or more")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}, expected 0 or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}, expected more than 0 and at most 1")

    def probabilities(self, logits: Array) -> Array:
        """What tokens are drawn by, float64 [V], for logits [V]."""
        if self.temperature == 0:
            chosen = np.zeros(len(logits))
            chosen[int(logits.argmax())] = 1.0
            return chosen
        p = softmax(logits.astype(np.float64) / self.temperature)
        order = np.argsort(-p, kind="stable")
        kept = len(p) if self.top_k == 0 else min(self.top_k, len(p))
        before = np.cumsum(p[order]) - p[order]
        within = before < self.top_p * (p[order[:kept]].sum() if kept < len(p) else 1.0)
        within[kept:] = False
        within[0] = True
        p[order[~within]] = 0.0
        return np.asarray(p / p.sum())

    def draw(self, logits: Array, rng: np.random.Generator) -> int:
        """One token for logits [V]; needs one number of `rng`, none at temperature 0."""
        if self.temperature == 0:
            return int(logits.argmax())
        return int(rng.choice(len(logits), p=self.probabilities(logits)))
