"""From texts to results: encode, batch, run, in the order of the input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, TypeAlias

from lightrnn.errors import InputError, TextError
from lightrnn.graph import Array
from lightrnn.model import Model, load
from lightrnn.text.batching import batches, windows
from lightrnn.text.tasks import Result, Task, parse_task

Item: TypeAlias = "str | Array"
"""A text, or what stands for one where the task reads arrays."""

WINDOW = 16
"""Batches' worth of texts that are sorted by length at a time."""


def pipeline(
    source: str | os.PathLike[str] | bytes | BinaryIO | Model,
    batch_size: int = 32,
    threads: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> Pipeline:
    """A pipeline from texts to results.

    source: a .lrnn file as `lightrnn.load` takes it, or a loaded model, which keeps its threads
    and device. batch_size: the most texts in one run; with 1, each text is answered before the
    next one is read. options: those of the model's task (see docs/text.md).

    Raises TextError for a model that does not say how it reads text, InputError for an option
    that its task does not have; what `lightrnn.load` raises.
    """
    if not isinstance(source, Model):
        return Pipeline(load(source, device, threads), batch_size, **options)
    if threads is not None or device != "cpu":
        raise InputError("threads and device are those of the loaded model")
    return Pipeline(source, batch_size, **options)


class Pipeline:
    """Texts to results of the model's task; any number of threads may use it at once.

    window: texts that are read before the first of them is answered.
    """

    def __init__(self, model: Model, batch_size: int = 32, **options: Any) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, expected a positive number")
        self.task: Task = parse_task(model, options)
        self._batch = self.task.batch_size or batch_size
        self.window = 1 if batch_size == 1 else WINDOW * self._batch

    def __call__(self, texts: Iterable[Item]) -> list[Result]:
        """A result for each text, in order."""
        return list(self.stream(texts))

    def stream(self, texts: Iterable[Item], first: int = 0) -> Iterator[Result]:
        """The same for any number of texts, in constant memory: a window of texts at a time.

        first: the index of the first text, where those before it have been answered. An error
        in reading or encoding a text comes after the results of those before it. Raises
        TextError, naming its index, for a text that is not of the type that the task reads.
        """
        if isinstance(texts, str | bytes):
            raise TextError(f"one {type(texts).__name__}, expected a list or iterable of texts")
        return self._stream(texts, first)

    def _stream(self, texts: Iterable[Item], first: int) -> Iterator[Result]:
        encoded = (self._encode(k, text) for k, text in enumerate(texts, first))
        for window in windows(encoded, self.window):
            yield from self._answers(window)

    def _encode(self, index: int, text: Any) -> Any:
        reads = self.task.reads
        if not isinstance(text, reads):
            raise TextError(f"text {index} is a {type(text).__name__}, expected {reads.__name__}")
        return self.task.encode(text, index)

    def _answers(self, window: Sequence[Any]) -> list[Result]:
        answers = [self.task.empty() for _ in window]
        lengths = [len(item) for item in window]
        for batch in batches(lengths, self._batch, mixed=self.task.mixed):
            found = self.task.run([window[k] for k in batch])
            for k, answer in zip(batch, found, strict=True):
                answers[k] = answer
        return answers
