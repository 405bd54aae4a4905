"""Train the spelling-to-phonemes model and convert it: `python examples/g2p-en/train.py`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pronunciations import Dictionary, Phonemes, held_out_words, training_words
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).parent
PADDING_ID, UNKNOWN_ID, BEGIN_ID, END_ID = 0, 1, 2, 3
FIRST_LETTER, FIRST_PHONEME = 2, 4
"""The ids that letters and phonemes are counted from; letters have no begin and end."""

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
MAX_LETTERS, MAX_PHONEMES = 40, 40
BATCH = 128
LEARNING_RATE = 2.5e-3

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""letters [N, S], their lengths [N], phonemes so far [N, T], the next ones [N, T]."""


class Encoder(nn.Module):
    """Embedding and a bidirectional GRU over the letters."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(
            FIRST_LETTER + len(LETTERS), embedding, padding_idx=PADDING_ID
        )
        self.gru = nn.GRU(embedding, hidden // 2, batch_first=True, bidirectional=True)
        self.first = nn.Linear(hidden, hidden)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """ids: int64 [N, S], lengths: int64 [N]; the memory [N, S, H] and a first state [N, H]."""
        packed = pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, last = self.gru(packed)
        memory, _ = pad_packed_sequence(outputs, batch_first=True, total_length=ids.shape[1])
        return memory, torch.tanh(self.first(torch.cat([last[0], last[1]], dim=1)))


class Decoder(nn.Module):
    """A GRU over the phonemes so far, whose state attends to the letters (Luong et al., 2015)."""

    def __init__(self, phonemes: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(FIRST_PHONEME + phonemes, embedding)
        self.cell = nn.GRUCell(embedding, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.mixed = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, FIRST_PHONEME + phonemes)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, token: Tensor, hidden: Tensor, memory: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """token: int64 [N], hidden [N, H], memory [N, S, H], lengths: int64 [N].

        Logits [N, V], the next hidden state [N, H], attention [N, S].
        """
        hidden = self.cell(self.embedding(token), hidden)
        logits, weights = self.attend(hidden[:, None], memory, lengths)
        return logits[:, 0], hidden, weights[:, 0]

    def sequence(self, tokens: Tensor, hidden: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        """Logits [N, T, V] of all steps at once, tokens int64 [N, T] given."""
        cell = self.cell
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        embedded = self.dropout(self.embedding(tokens))
        states, _ = torch.gru(
            embedded, hidden[None], weights, True, 1, 0.0, self.training, False, True
        )
        return self.attend(states, memory, lengths)[0]

    def attend(self, states: Tensor, memory: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, T, V] and attention [N, T, S] of states [N, T, H]."""
        scores = self.query(states) @ memory.transpose(1, 2)
        beyond = torch.arange(memory.shape[1]) >= lengths[:, None]
        weights = torch.softmax(scores.masked_fill(beyond[:, None], -1e9), dim=2)
        mixed = torch.tanh(self.mixed(torch.cat([states, weights @ memory], dim=2)))
        return self.output(self.dropout(mixed)), weights


class G2P(nn.Module):
    """Both of them. phonemes: those that have an id, in order, from FIRST_PHONEME on."""

    def __init__(self, phonemes: Sequence[str], embedding: int = 64, hidden: int = 192) -> None:
        super().__init__()
        self.phonemes = tuple(phonemes)
        self.encoder = Encoder(embedding, hidden)
        self.decoder = Decoder(len(phonemes), embedding, hidden)

    def loss(self, batch: Batch) -> Tensor:
        """The mean cross entropy of the next phonemes."""
        letters, lengths, before, after = batch
        memory, hidden = self.encoder(letters, lengths)
        logits = self.decoder.sequence(before, hidden, memory, lengths)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), after.flatten(), ignore_index=PADDING_ID
        )

    def batch(self, pairs: Sequence[tuple[str, Phonemes]]) -> Batch:
        """Tensors of words and pronunciations."""
        known = {p: k for k, p in enumerate(self.phonemes, FIRST_PHONEME)}
        words = [[FIRST_LETTER + LETTERS.index(c) for c in word] for word, _ in pairs]
        sounds = [[known[p] for p in phonemes] for _, phonemes in pairs]
        return (
            _padded(words),
            torch.tensor([len(word) for word in words]),
            _padded([[BEGIN_ID, *s] for s in sounds]),
            _padded([[*s, END_ID] for s in sounds]),
        )


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PADDING_ID)


def pairs_of(words: Dictionary) -> list[tuple[str, Phonemes]]:
    """Each word with each of its pronunciations."""
    return [(w, p) for w, listed in words.items() for p in listed if len(p) <= MAX_PHONEMES]


def batches(
    pairs: Sequence[tuple[str, Phonemes]], rng: np.random.Generator
) -> Iterator[list[tuple[str, Phonemes]]]:
    """Pairs of like length, without end; each pair once before any comes again."""
    while True:
        noise = rng.random(len(pairs)) * 2
        keys = [len(w) + len(p) + n for (w, p), n in zip(pairs, noise, strict=True)]
        order = np.argsort(keys)
        starts = rng.permutation(np.arange(0, len(pairs), BATCH))
        for start in starts:
            yield [pairs[k] for k in order[start : start + BATCH]]


def train(model: G2P, steps: int, seed: int) -> None:
    """Train in place by AdamW, one cycle of the learning rate over `steps` batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15
    )
    source = batches(pairs_of(training_words()), np.random.default_rng(seed))
    held_out = model.batch(pairs_of(held_out_words())[:2000])
    start, losses = time.perf_counter(), []
    for step in range(1, steps + 1):
        loss = model.train().loss(model.batch(next(source)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0 or step == steps:
            with torch.no_grad():
                other = model.eval().loss(held_out).item()
            seconds = time.perf_counter() - start
            print(
                f"{step}/{steps} {seconds:.0f} s, loss {np.mean(losses):.3f}, held out {other:.3f}",
                flush=True,
            )
            losses.clear()


def description(phonemes: Sequence[str]) -> dict[str, Any]:
    """What the file says of text."""
    ends = {"padding_id": PADDING_ID, "unknown_id": UNKNOWN_ID}
    return {
        "task": "translation",
        "tokenizer": {
            **ends, "kind": "characters", "characters": LETTERS,
            "normalization": "NFC", "lowercase": True, "max_length": MAX_LETTERS,
        },
        "target": {
            **ends, "kind": "words", "words": list(phonemes), "pattern": r"\S+", "separator": " ",
            "begin_id": BEGIN_ID, "end_id": END_ID,
        },
        "ids": "ids",
        "lengths": "lengths",
        "decoder": {
            "token": "token", "logits": "logits", "attention": "attention",
            "sources": {"hidden": "first", "memory": "memory", "lengths": "lengths"},
        },
        "max_length": MAX_PHONEMES,
    }  # fmt: skip


def convert(model: G2P, destination: Path) -> None:
    """Write the .lrnn file: encoder, decoder, both tokenizers."""
    from lightrnn_converters import TorchGraph, convert_torch_graphs

    letters, lengths, before, _ = model.batch([("phone", ("F",)), ("gnu", ("N",))])
    with torch.no_grad():
        memory, first = model.encoder(letters, lengths)
    graphs = {
        "encoder": TorchGraph(
            model.encoder.eval(), (letters, lengths), output_names=["memory", "first"]
        ),
        "decoder": TorchGraph(
            model.decoder.eval(), (before[:, 0], first, memory, lengths),
            output_names=["logits", "next_hidden", "attention"],
            states={"hidden": "next_hidden"},
        ),
    }  # fmt: skip
    convert_torch_graphs(
        graphs,
        destination,
        dtype="float16",
        text=description(model.phonemes),
        metadata={
            "source": "examples/g2p-en/train.py",
            "data": "The CMU Pronouncing Dictionary, Copyright (C) 1993-2015 Carnegie Mellon"
            " University",
        },
    )


def load_checkpoint(path: Path) -> G2P:
    """Read what `main` wrote."""
    saved = torch.load(path, weights_only=True)
    model = G2P(saved["phonemes"])
    model.load_state_dict(saved["weights"])
    return model


def new_model(seed: int) -> G2P:
    """A model that knows nothing yet but the dictionary's phonemes."""
    torch.manual_seed(seed)
    phonemes = {p for _, phonemes in pairs_of(training_words()) for p in phonemes}
    model = G2P(sorted(phonemes))
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    return model


def main() -> None:
    """Parse the arguments, train unless told not to, convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16000, help=f"batches of {BATCH} words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=HERE / "g2p-en.pt")
    parser.add_argument("--output", type=Path, default=HERE / "g2p-en.lrnn")
    parser.add_argument("--convert-only", action="store_true", help="convert the checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.convert_only:
        model = new_model(arguments.seed)
        train(model, arguments.steps, arguments.seed)
        saved = {"phonemes": list(model.phonemes), "weights": model.state_dict()}
        torch.save(saved, arguments.checkpoint)
    convert(load_checkpoint(arguments.checkpoint), arguments.output)


if __name__ == "__main__":
    main()
