"""Classification: one label a text, or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.errors import InputError, TextError
from lightrnn.graph import Array
from lightrnn.model import Model
from lightrnn.text.fields import Fields, tensor
from lightrnn.text.tasks.base import IdsInput, Result, Task, choose, expect_shape, given_options
from lightrnn.text.tasks.probabilities import SCORES, Scores, check_numbers, sigmoid, softmax
from lightrnn.text.tokenizers import Tokenizer, parse_tokenizer


@dataclass(frozen=True)
class ClassificationOptions:
    """What a caller may choose.

    top_k: labels to return a text at most, the most likely first, 0 for all; by default 1, and
    all where several may hold. threshold: the least probability of a label; by default the
    model's where several may hold, else none.
    """

    top_k: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}, expected 0 or more")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}, expected 0 to 1")


class Classification(Task):
    """Ids [N, T] to scores [N, labels].

        {"task": "classification", "tokenizer": {...}, "labels": ["ar", "bg"],
         "ids": "ids", "lengths": "lengths", "scores": "logits", "scores_are": "logits",
         "multiple": false, "threshold": 0.5}

    `lengths`, `multiple` and `threshold` may be left out. With `multiple` each label holds or not
    by itself: logits become probabilities by the sigmoid, and those from the threshold on are
    returned. A result is {"label", "score"} of the most likely label; with `multiple`, or where a
    caller chooses otherwise than one label a text, {"labels": [{"label", "score"}, ...]} besides.
    """

    name = "classification"
    Options = ClassificationOptions

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        ids: IdsInput,
        labels: tuple[str, ...],
        scores: str,
        scores_are: Scores,
        multiple: bool,
        options: ClassificationOptions,
    ) -> None:
        self.labels = labels
        self.mixed, self.batch_size = ids.mixed, ids.batch_size
        self._model, self._tokenizer, self._ids = model, tokenizer, ids
        self._scores, self._scores_are = scores, scores_are
        self._multiple = multiple
        self._options = options

    @classmethod
    def parse(cls, fields: Fields, model: Model, options: Mapping[str, Any]) -> Classification:
        graph = model.graph(model.graphs[0])
        tokenizer = parse_tokenizer(fields.take("tokenizer", Mapping))
        ids = IdsInput(graph, fields.take("ids", str), fields.optional("lengths", str), tokenizer)
        ids.check_no_others(graph)
        labels = fields.strings("labels")
        name = fields.take("scores", str)
        kind = tensor(graph.outputs, name, (2,), "output")
        count = None if kind.shape is None else kind.shape[1]
        if isinstance(count, int) and count != len(labels):
            raise TextError(f"{len(labels)} labels, but output {name!r} is {kind}")
        multiple = fields.take("multiple", bool, default=False)
        threshold = fields.take("threshold", float, default=0.5)
        own = {"threshold": threshold, "top_k": 0} if multiple else {}
        chosen = choose(ClassificationOptions, {**own, **given_options(options)})
        return cls(
            model, tokenizer, ids, labels, name,
            fields.one_of("scores_are", SCORES), multiple, chosen,
        )  # fmt: skip

    def encode(self, text: str, index: int = 0) -> list[int]:
        return self._tokenizer.encode(text)

    def run(self, batch: Sequence[list[int]]) -> list[Result]:
        scores = self._model.run(self._ids.feeds(batch), [self._scores])[self._scores]
        expect_shape(self._scores, scores, (self.batch_size or len(batch), len(self.labels)))
        check_numbers(scores, self._scores)
        found = self._probabilities(scores[: len(batch)])
        if self._options == ClassificationOptions():
            return self._best(found)
        return [self._result(row) for row in found]

    def empty(self) -> Result:
        result: Result = {"label": "", "score": 0.0}
        return result if self._options == ClassificationOptions() else {**result, "labels": []}

    def show(self, result: Result) -> str:
        if "labels" not in result:
            return str(result["label"])
        return ",".join(str(found["label"]) for found in result["labels"])

    def row(self, result: Result) -> list[str]:
        found = result.get("labels", [result] if result["label"] else [])
        return [cell for one in found for cell in (one["label"], f"{one['score']:.6f}")] or [""]

    def _probabilities(self, scores: Array) -> Array:
        if self._scores_are == "probabilities":
            return scores
        return sigmoid(scores) if self._multiple else softmax(scores)

    def _best(self, probabilities: Array) -> list[Result]:
        best = probabilities.argmax(axis=1)
        scores = np.take_along_axis(probabilities, best[:, None], 1)[:, 0]
        return [
            {"label": self.labels[k], "score": score}
            for k, score in zip(best.tolist(), scores.tolist(), strict=True)
        ]

    def _result(self, row: Array) -> Result:
        options = self._options
        least = 0.0 if options.threshold is None else options.threshold
        order = [int(k) for k in (-row).argsort(kind="stable") if row[k] >= least]
        kept = order[: 1 if options.top_k is None else options.top_k or None]
        found = [{"label": self.labels[k], "score": float(row[k])} for k in kept]
        return {**(found[0] if found else self.empty()), "labels": found}
