"""Sampling, beam search and CTC decoding against naive references."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from lightrnn.errors import InputError
from lightrnn.graph import Array
from lightrnn.text.decoding import ctc
from lightrnn.text.decoding.beam import Hypothesis, Search, beam_search
from lightrnn.text.decoding.sampling import Sampling

BEGIN, END, VOCABULARY = 0, 1, 7


class RandomModel:
    """A language model whose scores depend on all tokens so far, by a seeded hash of them."""

    def __init__(self, texts: int, seed: int) -> None:
        self.seed = seed
        self.prefixes: list[tuple[int, ...]] = [(1000 + k,) for k in range(texts)]

    def scores(self, prefix: tuple[int, ...]) -> Array:
        rng = np.random.default_rng([self.seed, *prefix])
        logits = rng.standard_normal(VOCABULARY) * 2
        logits[BEGIN] = -np.inf
        return np.asarray(logits - np.log(np.exp(logits).sum()))

    def step(self, tokens: Array) -> tuple[Array, Array]:
        self.prefixes = [(*p, int(t)) for p, t in zip(self.prefixes, tokens, strict=True)]
        rows = [self.scores(p) for p in self.prefixes]
        return np.array(rows), np.array([[len(p), p[0]] for p in self.prefixes], np.float64)

    def select(self, rows: Array) -> None:
        self.prefixes = [self.prefixes[int(k)] for k in rows]


def naive_search(model: RandomModel, text: int, search: Search) -> list[tuple[list[int], float]]:
    """One text, hypotheses as plain lists, every extension made and sorted."""
    alive = [([BEGIN], 0.0)]
    ended: list[tuple[list[int], float]] = []
    for step in range(search.max_length + 1):
        everything = []
        for tokens, total in alive:
            scores = model.scores((1000 + text, *tokens))
            for token in range(VOCABULARY):
                everything.append((total + scores[token], tokens, token))
        everything.sort(key=lambda e: -e[0])
        following: list[tuple[list[int], float]] = []
        for rank, (total, tokens, token) in enumerate(everything[: 2 * search.beam]):
            if total == -np.inf:
                continue
            if token == END:
                if rank < search.beam:
                    ended.append((tokens[1:], total / len(tokens) ** search.length_penalty))
            elif len(following) < search.beam:
                following.append(([*tokens, token], total))
        if len(ended) >= search.beam or step == search.max_length:
            break
        alive = following
    if len(ended) < search.n_best:
        ended += [(t[1:], s / max(len(t) - 1, 1) ** search.length_penalty) for t, s in alive]
    return sorted(ended, key=lambda e: -e[1])[: search.n_best]


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_beam_search_finds_what_a_naive_one_finds(beam: int, penalty: float) -> None:
    for seed in range(15):
        search = Search(beam, penalty, n_best=beam, max_length=8)
        found = beam_search(RandomModel(4, seed), 4, BEGIN, END, search)
        for text, hypotheses in enumerate(found):
            wanted = naive_search(RandomModel(4, seed), text, search)
            assert [list(h.tokens) for h in hypotheses] == [tokens for tokens, _ in wanted]
            np.testing.assert_allclose(
                [h.rank(penalty) for h in hypotheses], [s for _, s in wanted]
            )


def test_attention_is_that_of_each_token() -> None:
    (found,) = beam_search(RandomModel(1, 3), 1, BEGIN, END, Search(4, n_best=4, max_length=6))
    for hypothesis in found:
        assert len(hypothesis.attention) == len(hypothesis.tokens) + hypothesis.finished
        assert [row[0] for row in hypothesis.attention] == list(
            range(2, len(hypothesis.attention) + 2)
        )


@pytest.mark.parametrize(
    "options", [{"beam": 0}, {"n_best": 2}, {"max_length": 0}, {"length_penalty": -1.0}]
)
def test_a_search_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Search(**options)  # type: ignore[arg-type]


def test_longer_hypotheses_may_win_by_the_penalty() -> None:
    short, long = Hypothesis((2,), -1.0, finished=True), Hypothesis((2,) * 4, -1.5, finished=True)
    assert short.rank(0.0) > long.rank(0.0)
    assert short.rank(1.0) < long.rank(1.0)


LOGITS = np.log(np.array([0.4, 0.3, 0.2, 0.07, 0.03]))


@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        (Sampling(), [0.4, 0.3, 0.2, 0.07, 0.03]),
        (Sampling(top_k=2), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(top_p=0.65), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(top_p=0.71), [4 / 9, 3 / 9, 2 / 9, 0, 0]),
        (Sampling(top_p=0.01), [1, 0, 0, 0, 0]),
        (Sampling(top_k=3, top_p=0.5), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(temperature=0), [1, 0, 0, 0, 0]),
        (Sampling(temperature=0.5), np.array([16, 9, 4, 0.49, 0.09]) / 29.58),
    ],
)
def test_tokens_are_drawn_by_their_probabilities(sampling: Sampling, wanted: list[float]) -> None:
    np.testing.assert_allclose(sampling.probabilities(LOGITS), wanted, atol=1e-9)
    rng = np.random.default_rng(0)
    counts = Counter(sampling.draw(LOGITS, rng) for _ in range(4000))
    found = np.array([counts[k] for k in range(5)]) / 4000
    np.testing.assert_allclose(found, wanted, atol=0.03)


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}])
def test_sampling_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Sampling(**bad)  # type: ignore[arg-type]


def all_paths(log_probabilities: Array, blank: int) -> dict[tuple[int, ...], float]:
    """The probability of every label sequence, summed over all paths."""
    steps, labels = log_probabilities.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(labels), repeat=steps):
        total = float(np.exp(sum(log_probabilities[t, k] for t, k in enumerate(path))))
        sequence = tuple(k for k, _ in itertools.groupby(path) if k != blank)
        found[sequence] = found.get(sequence, 0.0) + total
    return found


@pytest.mark.parametrize("blank", [0, 2])
def test_a_wide_prefix_beam_finds_the_exact_probabilities(blank: int) -> None:
    for seed in range(5):
        logits = np.random.default_rng(seed).standard_normal((5, 3)) * 2
        rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        exact = all_paths(rows, blank)
        found = ctc.prefix_beam(rows, 10_000, blank)
        assert {tuple(s) for s, _ in found} == set(exact)
        for sequence, score in found:
            assert np.exp(score) == pytest.approx(exact[tuple(sequence)])
        best = max(exact, key=lambda s: exact[s])
        assert tuple(ctc.prefix_beam(rows, 8, blank)[0][0]) == best


def test_the_greedy_path_joins_repeats_and_drops_blanks() -> None:
    rows = np.log(np.eye(4)[[1, 1, 0, 1, 2, 2, 0]] * 0.97 + 0.01)
    sequence, score = ctc.greedy(rows)
    assert sequence == [1, 1, 2]
    assert score == pytest.approx(7 * np.log(0.98))
