"""Train the language identifier and convert it: `python -m examples.langid.train`.

Lines are made up of words of one language, drawn by frequency, so that the model learns from word
lists alone and still reads sentences.
"""

from __future__ import annotations

import argparse
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from examples.langid.words import LANGUAGES, held_out_words, training_words

HERE = Path(__file__).parent
PADDING_ID, UNKNOWN_ID, FIRST_ID = 0, 1, 2
MAX_LENGTH = 256
MAX_CHARACTERS = 3000
MOST_WORDS_A_LINE = 12

PUNCTUATION = {
    "ar": ".،؟",
    "bn": "।,?",
    "el": ".,;",
    "fa": ".،؟",
    "hi": "।,?",
    "ja": "。、？",
    "zh": "。，？",
}
USUAL_PUNCTUATION = ".,?"
OTHER_CHARACTERS = " 0123456789'’\"!:;()-\u0307ß"
"""Characters of lines that no word list holds; U+0307 is what lower case leaves of a Turkish İ."""

UNSPACED = ("ja", "zh")
ELIDING = ("fr", "it")
_ELISION = re.compile(r"\b([cdjlmnst]|qu) (?=[aeiouyhéèêàâîôû])")


class LanguageId(nn.Module):
    """Embedding, one bidirectional GRU over the characters, a linear layer on its last states."""

    def __init__(self, characters: int, labels: int, embedding: int = 32, hidden: int = 96) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding, padding_idx=PADDING_ID)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * hidden, labels)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids: int64 [N, T], lengths: int64 [N], at least 1; returns logits float32 [N, L]."""
        packed = pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.gru(packed)
        logits: Tensor = self.output(torch.cat([last[0], last[1]], dim=1))
        return logits


@dataclass(frozen=True)
class Vocabulary:
    """The characters that have an id, in the order of their ids from FIRST_ID on."""

    characters: str

    @classmethod
    def of(cls, frequencies: Iterable[dict[str, float]]) -> Vocabulary:
        """The characters of the lists' words that most words hold, each word weighted by √f."""
        always = OTHER_CHARACTERS + USUAL_PUNCTUATION + "".join(PUNCTUATION.values())
        weights: Counter[str] = Counter(dict.fromkeys(always, np.inf))
        for words in frequencies:
            total = sum(f**0.5 for f in words.values())
            for word, frequency in words.items():
                for character in word:
                    weights[character] += frequency**0.5 / total
        return cls("".join(c for c, _ in weights.most_common(MAX_CHARACTERS)))

    def encode(self, lines: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids int64 [N, T], padded, and lengths int64 [N] of lines that are not empty."""
        known = {c: i for i, c in enumerate(self.characters, FIRST_ID)}
        rows = [[known.get(c, UNKNOWN_ID) for c in _normalized(s)][:MAX_LENGTH] for s in lines]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), PADDING_ID)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = torch.tensor(values)
        return ids, lengths


class LineMaker:
    """Makes lines of one to twelve training words of one language."""

    def __init__(self, frequencies: dict[str, dict[str, float]], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._words = {language: list(words) for language, words in frequencies.items()}
        self._cumulative = {
            (language, power): _cumulative(words, power)
            for language, words in frequencies.items()
            for power in (0.4, 1.0)
        }

    def batch(self, size: int) -> tuple[list[str], Tensor]:
        """Lines of one number of words, and their languages as indices of LANGUAGES, int64."""
        rng = self._rng
        count = 1 if rng.random() < 0.3 else int(rng.integers(2, MOST_WORDS_A_LINE + 1))
        labels = rng.integers(len(LANGUAGES), size=size)
        return [self.line(LANGUAGES[i], count) for i in labels], torch.from_numpy(labels)

    def line(self, language: str, count: int) -> str:
        """A line of `count` words; rare words are frequent in half of the lines."""
        words = self._draw(language, count, 0.4 if self._rng.random() < 0.5 else 1.0)
        if count >= 4 and self._rng.random() < 0.15:
            words[self._rng.integers(count)] = self._stranger()
        if self._rng.random() < 0.3:
            words = [_varied(word, language) for word in words]
        return self._joined(words, language)

    def _draw(self, language: str, count: int, power: float) -> list[str]:
        places = np.searchsorted(self._cumulative[language, power], self._rng.random(count))
        return [self._words[language][place] for place in places]

    def _stranger(self) -> str:
        """A number, or a word of any language."""
        if self._rng.random() < 0.5:
            return str(self._rng.integers(1, 2100))
        return self._draw(LANGUAGES[self._rng.integers(len(LANGUAGES))], 1, 0.4)[0]

    def _joined(self, words: list[str], language: str) -> str:
        stop, comma, question = tuple(PUNCTUATION.get(language, USUAL_PUNCTUATION))
        spaced = language not in UNSPACED
        if len(words) > 3 and self._rng.random() < 0.4:
            words[self._rng.integers(1, len(words) - 1)] += comma
        line = (" " if spaced else "").join(words)
        if language in ELIDING:
            line = _ELISION.sub(r"\1'", line)
        if self._rng.random() < 0.3:
            line = line.replace("'", "’")
        if len(words) > 1 and self._rng.random() < 0.5:
            line += stop if self._rng.random() < 0.8 else question
        return line


def _cumulative(words: dict[str, float], power: float) -> Any:
    sums = np.cumsum(np.array(list(words.values())) ** power)
    return sums / sums[-1]


def _varied(word: str, language: str) -> str:
    """A spelling that the word lists fold away: Turkish capitals, the German sharp s."""
    if language == "tr":
        return word.replace("i", "İ", 1) if word.startswith("i") else word.capitalize()
    return word.replace("ss", "ß") if language == "de" else word


def _normalized(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower())


def train(model: LanguageId, vocabulary: Vocabulary, lines: LineMaker, steps: int) -> None:
    """Train in place by AdamW, one cycle of the learning rate over `steps` batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    held_out, start = held_out_words(), time.perf_counter()
    for step in range(1, steps + 1):
        texts, labels = lines.batch(256)
        loss = nn.functional.cross_entropy(model(*vocabulary.encode(texts)), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps:
            seconds, accuracy = (
                time.perf_counter() - start,
                word_accuracy(model, vocabulary, held_out),
            )
            print(f"{step}/{steps} {seconds:.0f} s, loss {loss.item():.3f}, words {accuracy:.4f}")


@torch.no_grad()
def word_accuracy(
    model: LanguageId, vocabulary: Vocabulary, words: dict[str, list[str]], most: int = 200
) -> float:
    """The mean over languages of the accuracy on at most `most` words, spread over each list."""
    scores = []
    for label, language in enumerate(LANGUAGES):
        some = words[language][:: max(1, len(words[language]) // most)][:most]
        guesses = model(*vocabulary.encode(some)).argmax(dim=1)
        scores.append((guesses == label).float().mean().item())
    return float(np.mean(scores))


def convert(model: LanguageId, vocabulary: Vocabulary, destination: Path) -> None:
    """Write the .lrnn file: the graph, its tokenizer and its labels."""
    from lightrnn_converters import convert_torch

    text = {
        "task": "classification",
        "tokenizer": {
            "kind": "characters",
            "characters": vocabulary.characters,
            "lowercase": True,
            "normalization": "NFC",
            "padding_id": PADDING_ID,
            "unknown_id": UNKNOWN_ID,
            "max_length": MAX_LENGTH,
        },
        "labels": list(LANGUAGES),
        "ids": "ids",
        "lengths": "lengths",
        "scores": "logits",
        "scores_are": "logits",
    }
    convert_torch(
        model.eval(),
        vocabulary.encode(["every human being", "is born free"]),
        destination,
        input_names=["ids", "lengths"],
        output_names=["logits"],
        text=text,
        metadata={"source": "examples/langid/train.py", "data": "wordfreq, CC BY-SA 4.0"},
    )


def save_checkpoint(path: Path, model: LanguageId, vocabulary: Vocabulary) -> None:
    """Write the weights and the vocabulary, for `--convert-only`."""
    torch.save({"characters": vocabulary.characters, "weights": model.state_dict()}, path)


def load_checkpoint(path: Path) -> tuple[LanguageId, Vocabulary]:
    """Read what `save_checkpoint` wrote."""
    saved = torch.load(path, weights_only=True)
    vocabulary = Vocabulary(saved["characters"])
    model = LanguageId(FIRST_ID + len(vocabulary.characters), len(LANGUAGES))
    model.load_state_dict(saved["weights"])
    return model, vocabulary


def trained(steps: int, seed: int) -> tuple[LanguageId, Vocabulary]:
    """A new model, trained."""
    torch.manual_seed(seed)
    frequencies = {language: training_words(language) for language in LANGUAGES}
    vocabulary = Vocabulary.of(frequencies.values())
    model = LanguageId(FIRST_ID + len(vocabulary.characters), len(LANGUAGES))
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    train(model, vocabulary, LineMaker(frequencies, seed), steps)
    return model, vocabulary


def main() -> None:
    """Parse the arguments, train unless told not to, convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3500, help="batches of 256 lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "langid.lrnn")
    parser.add_argument("--checkpoint", type=Path, help="by default beside the output, as .pt")
    parser.add_argument("--convert-only", action="store_true", help="convert the checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    checkpoint = arguments.checkpoint or arguments.output.with_suffix(".pt")
    if not arguments.convert_only:
        save_checkpoint(checkpoint, *trained(arguments.steps, arguments.seed))
    convert(*load_checkpoint(checkpoint), arguments.output)


if __name__ == "__main__":
    main()
