"""Viterbi decoding against brute force over all tag sequences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lightrnn.errors import DataError
from lightrnn.graph import Array, Node
from lightrnn.ops import Case, build
from tests.kernels import BACKENDS, run_lowered


def brute_force(
    x: Array, transitions: Array, start: Array | None, end: Array | None
) -> tuple[list[int], float]:
    """The best of all L**T sequences, scored in float64."""

    def score(tags: tuple[int, ...]) -> float:
        total = sum(float(x[t, k]) for t, k in enumerate(tags))
        total += sum(float(transitions[a, b]) for a, b in itertools.pairwise(tags))
        total += 0.0 if start is None else float(start[tags[0]])
        return total + (0.0 if end is None else float(end[tags[-1]]))

    best = max(itertools.product(range(x.shape[1]), repeat=len(x)), key=score)
    return list(best), score(best)


def random_case(rng: np.random.Generator) -> Case:
    batch, steps, labels = 3, int(rng.integers(1, 6)), int(rng.integers(1, 5))
    optional = rng.random(3) < 0.6

    def make(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    lengths = rng.integers(0, steps + 1, batch).astype(np.int32)
    arrays = (
        make(batch, steps, labels), make(labels, labels), make(labels) if optional[0] else None,
        make(labels) if optional[1] else None, lengths if optional[2] else None,
    )  # fmt: skip
    return Case("random", arrays)


@pytest.mark.parametrize("backend", ["semantics", *(pytest.param(b, marks=pytest.mark.native)
                                                  for b in BACKENDS)])  # fmt: skip
def test_tags_are_those_of_brute_force(backend: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(40):
        x, transitions, start, end, lengths = random_case(rng).inputs
        assert x is not None
        assert transitions is not None
        names = ("x", "t", *("" if a is None else "o" for a in (start, end, lengths)))
        op = build(Node("ViterbiDecode", names, ("tags", "score")))
        inputs = (x, transitions, start, end, lengths)
        if backend == "semantics":
            found = op.evaluate(*inputs)
        else:
            lowered = run_lowered(op, inputs, backend, constants=[1])
            assert lowered is not None
            found = tuple(a for a in lowered if a is not None)
        tags, scores = found
        for n, row in enumerate(x):
            length = len(row) if lengths is None else int(lengths[n])
            assert not tags[n, length:].any()
            if length:
                wanted, score = brute_force(row[:length], transitions, start, end)
                assert list(tags[n, :length]) == wanted
                assert scores[n] == pytest.approx(score, rel=1e-5, abs=1e-5)


def test_a_bad_length_is_refused() -> None:
    op = build(Node("ViterbiDecode", ("x", "t", "", "", "n"), ("tags",)))
    x = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(DataError, match="lengths\\[0\\] is 3"):
        op.evaluate(x, np.zeros((3, 3), np.float32), None, None, np.array([3], np.int32))
