"""Beam search over a decoder that runs step by step, many texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lightrnn.errors import InputError
from lightrnn.graph import Array

MOST_PENALTY = 32
"""The largest length penalty: larger powers of lengths leave float64."""


class Decoder(Protocol):
    """A model that is asked for the next token of several rows at once."""

    def step(self, tokens: Array) -> tuple[Array, Array | None]:
        """Log-probabilities [M, V] after tokens int [M], and attention [M, S] or None."""

    def select(self, rows: Array) -> None:
        """Go on with these rows int [M'] of the last step, in this order; some may repeat."""


@dataclass(frozen=True)
class Search:
    """How a beam search goes.

    beam: hypotheses kept; 1 is greedy. length_penalty: a hypothesis of n tokens, its end included,
    is ranked by log-probability / n**length_penalty. n_best: hypotheses returned. max_length:
    tokens of one, its end apart.
    """

    beam: int = 1
    length_penalty: float = 1.0
    n_best: int = 1
    max_length: int = 100

    def __post_init__(self) -> None:
        for name in ("beam", "n_best", "max_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.n_best > self.beam:
            raise InputError(f"n_best is {self.n_best}, more than the beam of {self.beam}")
        if not 0 <= self.length_penalty <= MOST_PENALTY:
            raise InputError(
                f"length_penalty is {self.length_penalty}, expected 0 to {MOST_PENALTY}"
            )


@dataclass(frozen=True)
class Hypothesis:
    """Tokens without their end, their log-probability, and attention [S] at each step."""

    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    attention: tuple[Array, ...] = ()
    finished: bool = False

    def rank(self, penalty: float) -> float:
        """What hypotheses are compared by."""
        length = len(self.tokens) + self.finished
        return self.log_probability / max(length, 1) ** penalty

    def extended(self, token: int, log_probability: float, attention: Array | None) -> Hypothesis:
        """One token longer."""
        seen = self.attention if attention is None else (*self.attention, attention)
        return Hypothesis((*self.tokens, token), log_probability, seen)

    def ended(self, log_probability: float, attention: Array | None) -> Hypothesis:
        """With its end."""
        seen = self.attention if attention is None else (*self.attention, attention)
        return Hypothesis(self.tokens, log_probability, seen, finished=True)


@dataclass
class _Text:
    """The search of one text: what lives, and what has ended."""

    number: int
    alive: list[Hypothesis] = field(default_factory=lambda: [Hypothesis()])
    ended: list[Hypothesis] = field(default_factory=list)


def beam_search(
    decoder: Decoder, texts: int, begin: int, end: int, search: Search
) -> list[list[Hypothesis]]:
    """The best hypotheses of each text, the best first.

    decoder: at its start, one row a text. Each step extends what lives by every token; the best
    2 * beam of these are looked at in order: one that ends is put by if it is among the best
    `beam`, others live on, at most `beam`. A text is done when `beam` have ended, or at
    max_length, where what lives counts as it is.
    """
    active = [_Text(k) for k in range(texts)]
    done: dict[int, _Text] = {}
    tokens = np.full(texts, begin, np.int64)
    for step in range(search.max_length + 1):
        log_probabilities, attention = decoder.step(tokens)
        rows: list[int] = []
        following: list[int] = []
        place, going = 0, []
        last = step == search.max_length
        for text in active:
            count = len(text.alive)
            part = slice(place, place + count)
            seen = None if attention is None else attention[part]
            origins = _advance(text, log_probabilities[part], seen, end, search, last)
            if last or len(text.ended) >= search.beam or not text.alive:
                done[text.number] = text
            else:
                going.append(text)
                rows += [place + k for k in origins]
                following += [h.tokens[-1] for h in text.alive]
            place += count
        active = going
        if not active:
            break
        decoder.select(np.array(rows, np.int64))
        tokens = np.array(following, np.int64)
    return [_best(done[k], search) for k in range(texts)]


def _advance(
    text: _Text, scores: Array, attention: Array | None, end: int, search: Search, last: bool
) -> list[int]:
    """Extend a text's hypotheses in place; the rows that the living ones come from.

    In the last step only ends count: what has none stays as it is.
    """
    totals = np.array([h.log_probability for h in text.alive])[:, None] + scores
    origins: list[int] = []
    alive: list[Hypothesis] = []
    for rank, (row, token) in enumerate(_largest(totals, 2 * search.beam)):
        total = float(totals[row, token])
        if total == -np.inf:
            break
        seen = None if attention is None else attention[row]
        if token == end:
            if rank < search.beam:
                text.ended.append(text.alive[row].ended(total, seen))
        elif len(alive) < search.beam:
            origins.append(row)
            alive.append(text.alive[row].extended(token, total, seen))
    if not last:
        text.alive = alive
    return origins


def _largest(totals: Array, count: int) -> list[tuple[int, int]]:
    """Row and column of the largest values, largest first, equal ones in order."""
    flat = totals.ravel()
    count = min(count, flat.size)
    least = np.partition(flat, flat.size - count)[flat.size - count]
    near = np.flatnonzero(flat >= least)
    order = near[np.argsort(-flat[near], kind="stable")][:count]
    return [divmod(int(k), totals.shape[1]) for k in order]


def _best(text: _Text, search: Search) -> list[Hypothesis]:
    found: Sequence[Hypothesis] = text.ended
    if len(found) < search.n_best:
        found = [*text.ended, *text.alive]
    ranked = sorted(found, key=lambda h: -h.rank(search.length_penalty))
    return ranked[: search.n_best]
