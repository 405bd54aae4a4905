"""The baseline: a model of the next character given the few before it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

BEGIN, END = "\x02", "\x03"


class NGrams:
    """Characters by the `order` - 1 before them, by Witten and Bell's interpolation.

    The estimate of n characters is that of n - 1, the more so the more different characters have
    followed them (https://doi.org/10.1109/18.87000). order: 3 for trigrams.
    """

    def __init__(self, order: int, names: Iterable[str], characters: Iterable[str]) -> None:
        self._order = order
        self._characters = [*sorted(set(characters)), END]
        self._followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for name in names:
            for context, character in self._steps(name):
                for k in range(order):
                    self._followers[context[k:]][character] += 1

    def bits(self, name: str) -> float:
        """-log2 of the probability of a name and its end."""
        return -sum(math.log2(self.probability(x, c)) for x, c in self._steps(name))

    def probability(self, context: str, character: str) -> float:
        """Of a character after a context of `order` - 1 characters."""
        p = 1 / len(self._characters)
        for k in range(len(context), -1, -1):
            if seen := self._followers.get(context[k:]):
                p = (seen[character] + len(seen) * p) / (seen.total() + len(seen))
        return p

    def draw(self, rng: np.random.Generator, longest: int) -> str:
        """A name of at most `longest` characters."""
        name = ""
        while len(name) < longest:
            context = (BEGIN * (self._order - 1) + name)[-self._order + 1 :]
            p = [self.probability(context, c) for c in self._characters]
            character = self._characters[rng.choice(len(p), p=np.array(p) / sum(p))]
            if character == END:
                break
            name += character
        return name

    def _steps(self, name: str) -> Sequence[tuple[str, str]]:
        """Every character of a name, and its end, with the context before it."""
        before = self._order - 1
        padded = BEGIN * before + name + END
        return [(padded[k - before : k], padded[k]) for k in range(before, len(padded))]
