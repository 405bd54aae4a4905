"""Train the generator of place names and convert it: `python -m examples.names.train`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from examples.names.places import COUNTRIES, Names, read

HERE = Path(__file__).parent
PADDING_ID, UNKNOWN_ID, BEGIN_ID, END_ID, FIRST_ID = range(5)
BATCH = 64


class Generator(nn.Module):
    """Embeddings of character and country, one LSTM, a layer that scores the next character."""

    def __init__(self, characters: int, embedding: int = 48, country: int = 24, hidden: int = 192):
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding, padding_idx=PADDING_ID)
        self.country = nn.Embedding(len(COUNTRIES), country)
        self.lstm = nn.LSTM(embedding + country, hidden, batch_first=True)
        self.output = nn.Linear(hidden, characters)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, ids: Tensor, category: Tensor, h0: Tensor, c0: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The country goes in with each character.

        ids: int64 [N, T], category: int64 [N], h0, c0: float32 [1, N, H]; returns logits of the
        next character float32 [N, T, V], and the states after the last.
        """
        country = self.country(category).unsqueeze(1).expand(-1, ids.shape[1], -1)
        x = torch.cat([self.embedding(ids), country], dim=2)
        y, (h, c) = self.lstm(self.dropout(x), (h0, c0))
        return self.output(self.dropout(y)), h, c

    def zeros(self, batch: int) -> tuple[Tensor, Tensor]:
        """The states before the first character."""
        shape = (1, batch, self.lstm.hidden_size)
        return torch.zeros(shape), torch.zeros(shape)


@dataclass(frozen=True)
class Vocabulary:
    """The characters that have an id, in the order of their ids from FIRST_ID on."""

    characters: str

    @classmethod
    def of(cls, names: Names) -> Vocabulary:
        """All characters of the names."""
        return cls("".join(sorted({c for some in names.values() for name in some for c in name})))

    def encode(self, names: Sequence[str]) -> Tensor:
        """ids int64 [N, T] with begin and end, padded."""
        known = {c: i for i, c in enumerate(self.characters, FIRST_ID)}
        rows = [[BEGIN_ID, *(known.get(c, UNKNOWN_ID) for c in name), END_ID] for name in names]
        ids = torch.full((len(rows), max(map(len, rows))), PADDING_ID)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = torch.tensor(values)
        return ids


def batches(names: Names, rng: np.random.Generator) -> Iterator[tuple[list[str], Tensor]]:
    """Names of like length and their countries int64 [N], each name once an epoch, endlessly."""
    pairs = [(name, k) for k, label in enumerate(COUNTRIES) for name in names[label]]
    lengths = np.array([len(name) for name, _ in pairs])
    while True:
        order = np.argsort(lengths + rng.uniform(0, 1, len(pairs)))
        groups = [order[k : k + BATCH] for k in range(0, len(order), BATCH)]
        for place in rng.permutation(len(groups)):
            some = [pairs[k] for k in groups[place]]
            yield [name for name, _ in some], torch.tensor([country for _, country in some])


def loss_of(model: Generator, ids: Tensor, category: Tensor) -> Tensor:
    """The mean cross entropy of the characters and ends of names, in nats."""
    logits, _, _ = model(ids[:, :-1], category, *model.zeros(len(ids)))
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PADDING_ID
    )


def train(model: Generator, vocabulary: Vocabulary, names: Names, steps: int, seed: int) -> None:
    """Train in place by AdamW, one cycle of the learning rate over `steps` batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    drawn, start, losses = batches(names, np.random.default_rng(seed)), time.process_time(), []
    model.train()
    for step in range(1, steps + 1):
        some, category = next(drawn)
        loss = loss_of(model, vocabulary.encode(some), category)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item() / np.log(2))
        if step % 500 == 0 or step == steps:
            seconds = time.process_time() - start
            print(f"{step}/{steps} {seconds:.0f} s, {np.mean(losses[-500:]):.3f} bits a character")


def convert(model: Generator, vocabulary: Vocabulary, destination: Path) -> None:
    """Write the .lrnn file: the graph with its states, its tokenizer and the countries."""
    from lightrnn_converters import convert_torch

    text = {
        "task": "generation",
        "tokenizer": {
            "kind": "characters",
            "characters": vocabulary.characters,
            "normalization": "NFC",
            "padding_id": PADDING_ID,
            "unknown_id": UNKNOWN_ID,
            "begin_id": BEGIN_ID,
            "end_id": END_ID,
        },
        "ids": "ids",
        "logits": "logits",
        "condition": {"input": "category", "labels": list(COUNTRIES)},
    }
    convert_torch(
        model.eval(),
        (vocabulary.encode(["Kuopio", "Paris"])[:, :-1], torch.tensor([3, 4]), *model.zeros(2)),
        destination,
        input_names=["ids", "category", "h0", "c0"],
        output_names=["logits", "h", "c"],
        states={"h0": "h", "c0": "c"},
        dtype="float16",
        text=text,
        metadata={"source": "examples/names/train.py", "data": "GeoNames, CC BY 4.0"},
    )


def save_checkpoint(path: Path, model: Generator, vocabulary: Vocabulary) -> None:
    """Write the weights and the vocabulary, for `--convert-only`."""
    torch.save({"characters": vocabulary.characters, "weights": model.state_dict()}, path)


def load_checkpoint(path: Path) -> tuple[Generator, Vocabulary]:
    """Read what `save_checkpoint` wrote."""
    saved = torch.load(path, weights_only=True)
    vocabulary = Vocabulary(saved["characters"])
    model = Generator(FIRST_ID + len(vocabulary.characters))
    model.load_state_dict(saved["weights"])
    return model, vocabulary


def trained(steps: int, seed: int) -> tuple[Generator, Vocabulary]:
    """A new model, trained."""
    names, _ = read()
    torch.manual_seed(seed)
    vocabulary = Vocabulary.of(names)
    model = Generator(FIRST_ID + len(vocabulary.characters))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, vocabulary, names, steps, seed)
    return model, vocabulary


def main() -> None:
    """Parse the arguments, train unless told not to, convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10000, help=f"batches of {BATCH} names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="by default beside the output, as .pt")
    parser.add_argument("--output", type=Path, default=HERE / "names.lrnn")
    parser.add_argument("--convert-only", action="store_true", help="convert the checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    checkpoint = arguments.checkpoint or arguments.output.with_suffix(".pt")
    if not arguments.convert_only:
        save_checkpoint(checkpoint, *trained(arguments.steps, arguments.seed))
    convert(*load_checkpoint(checkpoint), arguments.output)


if __name__ == "__main__":
    main()
