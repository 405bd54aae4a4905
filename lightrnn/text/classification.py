"""Classification: ids and lengths to labels and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from lightrnn.errors import DataError, TextError
from lightrnn.graph import Array, Dim
from lightrnn.model import Model
from lightrnn.text.schema import ClassificationSpec

STEP = 8
"""Where the model takes lengths, texts are padded to multiples of this: few shapes, few plans."""


class Prediction(TypedDict):
    """The most likely label of a text and its probability; "" and 0.0 for an empty text."""

    label: str
    score: float


class Classifier:
    """A model's first graph as a classifier of token ids; any number of threads may call it."""

    def __init__(self, model: Model, spec: ClassificationSpec) -> None:
        types = model.graph(model.graphs[0]).inputs
        self._model = model
        self._spec = spec
        self._ids = types[spec.ids]
        self._lengths = None if spec.lengths is None else types[spec.lengths]
        self._batch, self._steps = (None, None) if self._ids.shape is None else self._ids.shape

    @property
    def takes_lengths(self) -> bool:
        """Whether texts of different length may share a batch."""
        return self._lengths is not None

    @property
    def batch_size(self) -> int | None:
        """The only batch size that the model takes, if it takes just one."""
        return self._batch if isinstance(self._batch, int) else None

    def __call__(self, texts: Sequence[Sequence[int]]) -> list[Prediction]:
        """Predictions for texts of one id or more; of equal length unless `takes_lengths`.

        Raises DataError for an id out of range and for scores that are not numbers, TextError for
        scores of another shape than [N, labels].
        """
        rows = [*texts, *[texts[-1]] * ((self.batch_size or 0) - len(texts))]
        scores = self._model.run(self._feeds(rows), [self._spec.scores])[self._spec.scores]
        if scores.shape != (len(rows), len(self._spec.labels)):
            raise TextError(
                f"output {self._spec.scores!r} has shape {scores.shape}, "
                f"expected {(len(rows), len(self._spec.labels))}"
            )
        return self._predictions(scores[: len(texts)])

    def _feeds(self, rows: Sequence[Sequence[int]]) -> dict[str, Array]:
        lengths = [len(row) for row in rows]
        shape = len(rows), self._padded(max(lengths))
        ids = np.full(shape, self._spec.tokenizer.padding_id, self._ids.dtype)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        feeds = {self._spec.ids: ids}
        if self._spec.lengths is not None and self._lengths is not None:
            feeds[self._spec.lengths] = np.array(lengths, self._lengths.dtype)
        return feeds

    def _padded(self, longest: int) -> int:
        steps: Dim = self._steps
        if isinstance(steps, int):
            return steps
        if not self.takes_lengths:
            return longest
        return min(-(-longest // STEP) * STEP, self._spec.tokenizer.max_length or 2**31)

    def _predictions(self, scores: Array) -> list[Prediction]:
        probabilities = softmax(scores) if self._spec.scores_are == "logits" else scores
        if np.isnan(probabilities).any():
            raise DataError(f"output {self._spec.scores!r} holds values that are not numbers")
        best = probabilities.argmax(axis=1)
        return [
            {"label": self._spec.labels[k], "score": float(row[k])}
            for k, row in zip(best, probabilities, strict=True)
        ]


def softmax(logits: Array) -> Array:
    """Probabilities of logits [N, labels], in float64; NaN where no logit is finite."""
    values = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result
