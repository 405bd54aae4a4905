"""Measure the language identifier on text that it was not trained on.

`python -m examples.langid.evaluate` prints the table in README.md. Words need the `wordfreq`
package; `--sentences-only` does without.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightrnn
from examples.langid.words import held_out_words
from lightrnn.text import Pipeline

HERE = Path(__file__).parent
MODEL = HERE / "langid.lrnn"
SENTENCES = HERE / "sentences.txt"
SENTENCE_LABELS = HERE / "sentences.labels"
LOWEST = 5

Texts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Result:
    """guesses: for each language, how often each label was given to its texts."""

    name: str
    guesses: Mapping[str, Counter[str]]

    @property
    def count(self) -> int:
        """Texts of all languages."""
        return sum(c.total() for c in self.guesses.values())

    @property
    def accuracy(self) -> float:
        """The mean over languages of the share of texts that got the right label."""
        return sum(map(self.of, self.guesses)) / len(self.guesses)

    def of(self, language: str) -> float:
        """The share of one language's texts that got the right label."""
        return self.guesses[language][language] / self.guesses[language].total()

    def lowest(self) -> str:
        """The languages that did worst, each with the label that it is most often mistaken for."""
        worst = sorted((k for k in self.guesses if self.of(k) < 1), key=self.of)[:LOWEST]
        return ", ".join(f"{k} {percent(self.of(k))} (as {self._mistaken(k)})" for k in worst)

    def _mistaken(self, language: str) -> str:
        others = self.guesses[language].copy()
        del others[language]
        return others.most_common(1)[0][0]

    def __str__(self) -> str:
        return (
            f"| {self.name} | {self.count:,} | {percent(self.accuracy)} | "
            f"{self.lowest() or 'none below 100 %'} |"
        )


HEADER = "| text | lines | accuracy | lowest languages |\n| --- | ---: | ---: | --- |"


def percent(share: float) -> str:
    """In per cent, rounded down."""
    return f"{math.floor(share * 1000) / 10:.1f} %"


def measure(name: str, pipe: Pipeline, texts: Texts) -> Result:
    """Label all texts."""
    return Result(name, {k: Counter(p["label"] for p in pipe(some)) for k, some in texts.items()})


def sentences() -> dict[str, list[str]]:
    """The lines of sentences.txt by language."""
    lines = SENTENCES.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    found: dict[str, list[str]] = {}
    for line, label in zip(lines, SENTENCE_LABELS.read_text().split(), strict=True):
        found.setdefault(label, []).append(line)
    return found


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sentences-only", action="store_true")
    arguments = parser.parse_args()
    pipe = lightrnn.pipeline(arguments.model)
    print(HEADER)
    if not arguments.sentences_only:
        print(measure("held-out words", pipe, held_out_words()))
    print(measure("sentences", pipe, sentences()))


if __name__ == "__main__":
    main()
