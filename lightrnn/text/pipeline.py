"""From texts to labels: tokenize, batch, run, in the order of the input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from lightrnn.errors import InputError, TextError
from lightrnn.model import Model, load
from lightrnn.text.batching import batches, windows
from lightrnn.text.characters import CharacterTokenizer
from lightrnn.text.classification import Classifier, Prediction
from lightrnn.text.schema import parse

WINDOW = 16
"""Batches' worth of texts that are sorted by length at a time."""


def pipeline(
    source: str | os.PathLike[str] | bytes | BinaryIO | Model,
    batch_size: int = 32,
    threads: int | None = None,
    device: str = "cpu",
) -> Pipeline:
    """A pipeline from texts to labels.

    source: a .lrnn file as `lightrnn.load` takes it, or a loaded model, which keeps its threads
    and device. batch_size: the most texts in one run; with 1, each text is answered before the
    next one is read.

    Raises TextError for a model that does not say how it reads text; what `lightrnn.load` raises.
    """
    if not isinstance(source, Model):
        return Pipeline(load(source, device, threads), batch_size)
    if threads is not None or device != "cpu":
        raise InputError("threads and device are those of the loaded model")
    return Pipeline(source, batch_size)


class Pipeline:
    """Texts to labels and scores; any number of threads may use it at once."""

    def __init__(self, model: Model, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, expected a positive number")
        if model.text is None:
            raise TextError("the model does not say how it reads text: run it on arrays (--npz)")
        spec = parse(model.text, model.graph(model.graphs[0]))
        self._tokenizer = CharacterTokenizer(spec.tokenizer)
        self._classify = Classifier(model, spec)
        self._batch = self._classify.batch_size or batch_size
        self._window = 1 if batch_size == 1 else WINDOW * self._batch
        self.labels: tuple[str, ...] = spec.labels

    def __call__(self, texts: Iterable[str]) -> list[Prediction]:
        """A label and its probability for each text, in order."""
        return list(self.stream(texts))

    def stream(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """The same for any number of texts, in constant memory: a window of texts at a time.

        Raises TextError, naming its index, for a text that is not a str.
        """
        if isinstance(texts, str | bytes):
            raise TextError(f"one {type(texts).__name__}, expected a list or iterable of texts")
        return self._stream(texts)

    def _stream(self, texts: Iterable[str]) -> Iterator[Prediction]:
        encoded = (self._encode(k, text) for k, text in enumerate(texts))
        for window in windows(encoded, self._window):
            yield from self._answers(window)

    def _encode(self, index: int, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TextError(f"text {index} is a {type(text).__name__}, expected str")
        return self._tokenizer.encode(text)

    def _answers(self, window: Sequence[list[int]]) -> list[Prediction]:
        answers: list[Prediction] = [{"label": "", "score": 0.0} for _ in window]
        lengths = [len(ids) for ids in window]
        for batch in batches(lengths, self._batch, mixed=self._classify.takes_lengths):
            found = self._classify([window[k] for k in batch])
            for k, answer in zip(batch, found, strict=True):
                answers[k] = answer
        return answers
