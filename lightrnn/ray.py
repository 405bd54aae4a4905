"""A pipeline as Ray Data runs it: `dataset.map_batches(lightrnn.ray.Predictor, ...)`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lightrnn.errors import InputError
from lightrnn.graph import Array
from lightrnn.model import Model
from lightrnn.text.pipeline import pipeline


class Predictor:
    """Adds to each batch of texts a column for each key of the pipeline's results.

    model: a .lrnn file as `lightrnn.load` takes it, run on one thread, or a loaded model, which
    keeps its threads. column: the one that holds the texts. prefix: begins the name of each column
    that is added. batch_size and options: as `lightrnn.pipeline` takes them.

    Raises what `lightrnn.pipeline` raises; InputError where a result depends on a text's number,
    which a batch does not know.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | Model,
        column: str = "text",
        prefix: str = "",
        batch_size: int = 32,
        **options: Any,
    ) -> None:
        threads = None if isinstance(model, Model) else 1
        self._pipe = pipeline(model, batch_size, threads, **options)
        if self._pipe.task.numbered:
            raise InputError(
                f"{self._pipe.task.name} draws by each text's number, which a batch of Ray Data "
                "does not know; temperature=0 takes the likeliest instead"
            )
        self._column, self._prefix = column, prefix

    def __call__(self, batch: dict[str, Array]) -> dict[str, Array]:
        """The batch with columns added: numbers as float64 [N], anything else as objects [N].

        Raises InputError for a batch that is not a dict of arrays, has no such column, or has one
        that would be added; TextError for a text that is not a str.
        """
        if not isinstance(batch, dict):
            raise InputError(
                f"a batch is a {type(batch).__name__}, expected a dict of arrays: "
                'batch_format="numpy"'
            )
        if self._column not in batch:
            raise InputError(f"no column {self._column!r}, the batch has {', '.join(batch)}")
        results = self._pipe(batch[self._column].tolist())
        keys = self._pipe.task.empty()
        added = {self._prefix + key: _column([r[key] for r in results]) for key in keys}
        if taken := [name for name in added if name in batch]:
            raise InputError(f"the batch already has a column {taken[0]!r}: give another prefix")
        return {**batch, **added}


def _column(values: list[Any]) -> Array:
    numbers = bool(values) and all(isinstance(value, float) for value in values)
    return np.fromiter(values, np.float64 if numbers else object, len(values))
