"""What fewer bits cost a task: the language identifier's accuracy with weights in each type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.selection import DTYPES
from bench.text import stored_as
from examples.langid.evaluate import MODEL, Texts, measure, sentences
from examples.langid.words import held_out_words
from lightrnn.model import load
from lightrnn.text import Pipeline

QUICK = 20
"""A quick run takes one held-out word in this many."""


def texts(quick: bool) -> dict[str, Texts]:
    """Lines by language, by name: held-out words, where wordfreq is installed, and sentences."""
    found: dict[str, Texts] = {"sentences": sentences()}
    try:
        words = held_out_words()
    except ImportError:
        print("wordfreq is not installed: sentences alone")
        return found
    step = QUICK if quick else 1
    return {"held-out words": {k: v[::step] for k, v in words.items()}, **found}


def results(quick: bool, model: Path = MODEL) -> Iterator[dict[str, Any]]:
    """A result for each type of weights and text."""
    lines = texts(quick)
    stored = load(model)
    for dtype in DTYPES:
        content = stored_as(stored, dtype)
        pipe = Pipeline(load(content))
        for name, some in lines.items():
            found = measure(name, pipe, some)
            yield {
                "cell": "Metric", "model": "language identifier", "dtype": dtype, "text": name,
                "lines": found.count, "accuracy": found.accuracy, "file_bytes": len(content),
            }  # fmt: skip
