"""Connectionist temporal classification (https://www.cs.toronto.edu/~graves/icml_2006.pdf)."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from lightrnn.graph import Array


def greedy(log_probabilities: Array, blank: int = 0) -> tuple[list[int], float]:
    """The labels of the best path and its log-probability: repeats joined, blanks dropped.

    log_probabilities: [T, V].
    """
    path = log_probabilities.argmax(axis=1)
    total = float(np.take_along_axis(log_probabilities, path[:, None], 1).sum())
    return [int(k) for k, _ in groupby(path) if k != blank], total


def prefix_beam(
    log_probabilities: Array, beam: int, blank: int = 0
) -> list[tuple[list[int], float]]:
    """The most probable label sequences with their log-probabilities, the best first.

    A prefix gathers the probability of all paths that lead to it, those that end in a blank and
    those that do not apart (https://arxiv.org/abs/1408.2873). log_probabilities: [T, V].
    """
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}
    for row in log_probabilities.astype(np.float64):
        found: dict[tuple[int, ...], list[float]] = {}
        for prefix, (with_blank, without) in beams.items():
            whole = np.logaddexp(with_blank, without)
            _add(found, prefix, 0, whole + row[blank])
            for label, score in enumerate(row):
                if label == blank or score == -np.inf:
                    continue
                if prefix and prefix[-1] == label:
                    _add(found, prefix, 1, without + score)
                    _add(found, (*prefix, label), 1, with_blank + score)
                else:
                    _add(found, (*prefix, label), 1, whole + score)
        ranked = sorted(found.items(), key=lambda item: -np.logaddexp(item[1][0], item[1][1]))
        beams = {prefix: (scores[0], scores[1]) for prefix, scores in ranked[:beam]}
    return [(list(prefix), float(np.logaddexp(*scores))) for prefix, scores in beams.items()]


def _add(
    found: dict[tuple[int, ...], list[float]], prefix: tuple[int, ...], kind: int, score: float
) -> None:
    if score == -np.inf:
        return
    scores = found.setdefault(prefix, [-np.inf, -np.inf])
    scores[kind] = float(np.logaddexp(scores[kind], score))
