"""The torch modules that must convert, each with an example and other shapes to try it at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

VOCABULARY = 20


@dataclass(frozen=True)
class Example:
    """A module, what it is called with, and whether its graph runs without host steps.

    make_inputs: inputs for a batch and a number of steps.
    sizes: (batch, steps) of the example, then others that must agree too.
    plain: whether torch's own exporter takes the module.
    """

    name: str
    make: Callable[[], nn.Module]
    make_inputs: Callable[[int, int], tuple[Any, ...]]
    sizes: tuple[tuple[int, int], ...] = ((3, 4), (2, 7), (5, 2))
    native: bool = True
    plain: bool = True
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def module(self) -> nn.Module:
        """The module with seeded weights, in evaluation mode."""
        torch.manual_seed(0)
        return self.make().eval()


class Stateless(nn.Module):
    """A recurrent layer called without initial states."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)


class Stateful(nn.Module):
    """A recurrent layer called with initial states: h0, and c0 for an LSTM."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor | None = None) -> Any:
        return self.layer(x, h0 if c0 is None else (h0, c0))


class Classifier(nn.Module):
    """Embedding, two-layer BiLSTM, last hidden states, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.rnn = nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True, dropout=0.5)
        self.linear = nn.Linear(12, 4)

    def forward(self, ids: Tensor) -> Tensor:
        _, (h, _) = self.rnn(self.embedding(ids))
        scores: Tensor = self.linear(torch.cat([h[-2], h[-1]], dim=1))
        return scores


class Tagger(nn.Module):
    """Embedding, BiGRU, linear at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.rnn = nn.GRU(8, 6, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(12, 5)

    def forward(self, ids: Tensor) -> Tensor:
        tags: Tensor = self.linear(self.rnn(self.embedding(ids))[0])
        return tags


class PackedClassifier(nn.Module):
    """Embedding, packed BiGRU, last hidden states, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.rnn = nn.GRU(8, 6, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(12, 4)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        x = pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        _, h = self.rnn(x)
        scores: Tensor = self.linear(torch.cat([h[0], h[1]], dim=1))
        return scores


class PackedTagger(nn.Module):
    """Packed two-layer LSTM with initial states, unpacked to the length it had or the longest."""

    def __init__(self, *, keep_length: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.rnn = nn.LSTM(8, 6, 2)
        self.keep_length = keep_length

    def forward(self, ids: Tensor, lengths: Tensor, h0: Tensor, c0: Tensor) -> Any:
        x = pack_padded_sequence(self.embedding(ids), lengths, enforce_sorted=False)
        y, (h, c) = self.rnn(x, (h0, c0))
        total = ids.shape[0] if self.keep_length else None
        y, found = pad_packed_sequence(y, total_length=total, padding_value=-1.0)
        return torch.tanh(y), h, c, found


class LinearAttention(nn.Module):
    """softmax(Linear([Q, K]))·V, then Linear([Q, context]); returns output and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(32 + 32, 32)
        self.combine = nn.Linear(32 + 64, 32)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        weights = F.softmax(self.score(torch.cat((query[0], key[0]), 1)), dim=1)
        context = torch.bmm(weights.unsqueeze(0), value)
        output = self.combine(torch.cat((query[0], context[0]), 1)).unsqueeze(0)
        return output, weights


class AdditiveAttention(nn.Module):
    """softmax(sum(tanh(Linear([Q, K]))))·V, the query repeated at every key."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6 + 6, 10)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        wide = query.unsqueeze(1).expand(-1, key.shape[1], -1)
        scores = torch.tanh(self.score(torch.cat((wide, key), dim=2))).sum(dim=2)
        weights = F.softmax(scores, dim=1)
        return torch.bmm(weights.unsqueeze(1), value).squeeze(1), weights


class DotAttention(nn.Module):
    """softmax(Q·Kᵀ / √d)·V."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(1, 2) / key.shape[-1] ** 0.5
        return F.softmax(scores, dim=-1) @ value


class SelfAttention(nn.Module):
    """nn.MultiheadAttention with Q = K = V and a mask of padded keys."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, key_padding_mask: Tensor) -> Any:
        return self.attention(x, x, x, key_padding_mask=key_padding_mask)


class CrossAttention(nn.Module):
    """nn.MultiheadAttention with Q ≠ K and a mask of padded keys."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, query: Tensor, key: Tensor, key_padding_mask: Tensor) -> Any:
        return self.attention(query, key, key, key_padding_mask=key_padding_mask)


class Encoder(nn.Module):
    """Embedding and GRU: all outputs and the last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.rnn = nn.GRU(8, 6, batch_first=True)

    def forward(self, ids: Tensor) -> Any:
        return self.rnn(self.embedding(ids))


class DecoderStep(nn.Module):
    """One step of an attention GRU decoder: scores, next hidden state, weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.rnn = nn.GRU(8 + 6, 6, batch_first=True)
        self.linear = nn.Linear(6, VOCABULARY)

    def forward(self, token: Tensor, hidden: Tensor, memory: Tensor) -> Any:
        query = hidden[-1].unsqueeze(2)
        weights = F.softmax((memory @ query).squeeze(2), dim=1)
        context = weights.unsqueeze(1) @ memory
        x = torch.cat((self.embedding(token).unsqueeze(1), context), dim=2)
        y, hidden = self.rnn(x, hidden)
        return self.linear(y.squeeze(1)), hidden, weights


def _ids(*shape: int) -> Tensor:
    return torch.randint(0, VOCABULARY, shape)


def _mask(batch: int, steps: int) -> Tensor:
    lengths = torch.randint(1, steps + 1, (batch,))
    return torch.arange(steps)[None, :] >= lengths[:, None]


def _lengths(batch: int, steps: int) -> Tensor:
    """Lengths whose longest is shorter than the steps."""
    return torch.randint(1, max(steps, 2), (batch,))


def _stateless(name: str, make: Callable[[], nn.Module], first: bool = False) -> Example:
    def inputs(batch: int, steps: int) -> tuple[Tensor, ...]:
        return (torch.randn(batch, steps, 5) if first else torch.randn(steps, batch, 5),)

    return Example(name, lambda: Stateless(make()), inputs)


def _stateful(
    name: str, make: Callable[[], nn.Module], layers: int = 2, size: int = 6, cell: bool = False
) -> Example:
    def inputs(batch: int, steps: int) -> tuple[Tensor, ...]:
        states = [torch.randn(layers, batch, size)]
        if cell:
            states.append(torch.randn(layers, batch, 6))
        return (torch.randn(steps, batch, 5), *states)

    return Example(name, lambda: Stateful(make()), inputs)


LAYERS = [
    _stateless("rnn", lambda: nn.RNN(5, 6, 2)),
    _stateless("rnn relu", lambda: nn.RNN(5, 6, 2, nonlinearity="relu")),
    _stateless("lstm", lambda: nn.LSTM(5, 6, 2)),
    _stateless("gru", lambda: nn.GRU(5, 6, 2)),
    _stateful("rnn h0", lambda: nn.RNN(5, 6, 2)),
    _stateful("rnn relu h0", lambda: nn.RNN(5, 6, 2, nonlinearity="relu")),
    _stateful("lstm h0 c0", lambda: nn.LSTM(5, 6, 2), cell=True),
    _stateful("gru h0", lambda: nn.GRU(5, 6, 2)),
    _stateless("gru batch_first", lambda: nn.GRU(5, 6, 2, batch_first=True), first=True),
    _stateless("lstm bidirectional", lambda: nn.LSTM(5, 6, 2, bidirectional=True)),
    _stateful("gru bidirectional h0", lambda: nn.GRU(5, 6, 2, bidirectional=True), layers=4),
    _stateless("rnn bidirectional", lambda: nn.RNN(5, 6, bidirectional=True)),
    _stateless("lstm no bias", lambda: nn.LSTM(5, 6, 2, bias=False)),
    _stateless("gru no bias", lambda: nn.GRU(5, 6, bias=False)),
    _stateless("gru dropout", lambda: nn.GRU(5, 6, 2, dropout=0.5)),
    _stateless("lstm proj_size", lambda: nn.LSTM(5, 6, 2, proj_size=3)),
    _stateful(
        "lstm proj_size bidirectional h0 c0",
        lambda: nn.LSTM(5, 6, 2, proj_size=3, bidirectional=True),
        layers=4,
        size=3,
        cell=True,
    ),
]

TEXT = [
    Example("classifier", Classifier, lambda n, t: (_ids(n, t),)),
    Example("tagger", Tagger, lambda n, t: (_ids(n, t),)),
    Example(
        "packed classifier", PackedClassifier, lambda n, t: (_ids(n, t), _lengths(n, t)),
        plain=False,
    ),
    Example(
        "packed tagger, kept length",
        lambda: PackedTagger(keep_length=True),
        lambda n, t: (_ids(t, n), _lengths(n, t), torch.randn(2, n, 6), torch.randn(2, n, 6)),
        plain=False,
    ),
    Example(
        "packed tagger",
        lambda: PackedTagger(keep_length=False),
        lambda n, t: (_ids(t, n), _lengths(n, t), torch.randn(2, n, 6), torch.randn(2, n, 6)),
        native=False,
        plain=False,
    ),
]  # fmt: skip

ATTENTION = [
    Example(
        "linear attention",
        LinearAttention,
        lambda n, t: (torch.randn(1, n, 32), torch.randn(1, n, 32), torch.randn(1, 32, 64)),
    ),
    Example(
        "additive attention",
        AdditiveAttention,
        lambda n, t: (torch.randn(n, 6), torch.randn(n, t, 6), torch.randn(n, t, 7)),
    ),
    Example(
        "dot attention",
        DotAttention,
        lambda n, t: (torch.randn(n, 3, 6), torch.randn(n, t, 6), torch.randn(n, t, 7)),
    ),
    Example("self attention", SelfAttention, lambda n, t: (torch.randn(n, t, 8), _mask(n, t))),
    Example(
        "cross attention",
        CrossAttention,
        lambda n, t: (torch.randn(n, 3, 8), torch.randn(n, t, 8), _mask(n, t)),
    ),
]

ENCODER = Example("encoder", Encoder, lambda n, t: (_ids(n, t),))
DECODER = Example(
    "decoder step",
    DecoderStep,
    lambda n, t: (_ids(n), torch.randn(1, n, 6), torch.randn(n, t, 6)),
)

ALL = [*LAYERS, *TEXT, *ATTENTION, ENCODER, DECODER]
