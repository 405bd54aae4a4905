"""More torch modules, as people write them: packed sequences, cells, masks, attention, speech."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tests.models import VOCABULARY, Example


def ids(*shape: int) -> Tensor:
    return torch.randint(0, VOCABULARY, shape)


def frames(batch: int, steps: int) -> Tensor:
    return torch.randn(batch, steps, 5)


def lengths(batch: int, steps: int, *, longest: bool = False, falling: bool = False) -> Tensor:
    """Lengths up to the number of steps; one of them is that number if `longest`."""
    found = torch.randint(1, steps + 1, (batch,))
    if longest:
        found[batch // 2] = steps
    return found.sort(descending=True).values if falling else found


class Module(nn.Module):
    """A module made of parts and a function of them and the inputs."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def example(
    name: str, function: Callable[..., Any], make_inputs: Callable[[int, int], tuple[Any, ...]],
    sizes: tuple[tuple[int, int], ...] = ((3, 4), (2, 7), (5, 2)), native: bool = False,
    **parts: Callable[[], Any],
) -> Example:  # fmt: skip
    """An example of `Module`; parts are made anew each time, so that they are seeded."""
    return Example(
        name, lambda: Module(function, **{k: make() for k, make in parts.items()}), make_inputs,
        sizes, native, plain=False,
    )  # fmt: skip


# Packed sequences


class Packed(nn.Module):
    """Packs, runs a layer, unpacks, in one of many ways."""

    def __init__(
        self, layer: nn.Module, *, total: str | int = "none", sort: bool = True, padding: float = 0
    ) -> None:
        super().__init__()
        self.layer, self.total, self.sort, self.padding = layer, total, sort, padding

    def forward(self, x: Tensor, lengths: Any, *states: Tensor) -> Any:
        first = self.layer.batch_first
        packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=not self.sort)
        given = states if len(states) > 1 else states[0] if states else None
        y, final = self.layer(packed, given)
        totals: dict[Any, Any] = {"none": None, "steps": x.shape[1 if first else 0]}
        total = totals.get(self.total, self.total)
        y, found = pad_packed_sequence(
            y, batch_first=first, padding_value=self.padding, total_length=total
        )
        return y, final, found


def packed(name: str, layer: Callable[[], nn.Module], *, states: int = 0, native: bool = False,
           longest: bool = False, as_list: bool = False, **options: Any) -> Example:  # fmt: skip
    """A packed layer; `states` is how many initial states it is given."""

    def inputs(batch: int, steps: int) -> tuple[Any, ...]:
        own = layer()
        rows = own.num_layers * (2 if own.bidirectional else 1)
        found = lengths(batch, steps, longest=longest, falling=not options.get("sort", True))
        given = [torch.randn(rows, batch, 6) for _ in range(states)]
        x = frames(batch, steps) if own.batch_first else frames(steps, batch)
        return (x, found.tolist() if as_list else found, *given)

    return Example(name, lambda: Packed(layer(), **options), inputs, native=native, plain=False)


PACKED = [
    packed("packed lstm", lambda: nn.LSTM(5, 6)),
    packed("packed gru, batch_first, total_length", lambda: nn.GRU(5, 6, batch_first=True),
           total="steps", native=True),
    packed("packed rnn, sorted", lambda: nn.RNN(5, 6), sort=False, total="steps", native=True),
    packed("packed gru, sorted, to the longest", lambda: nn.GRU(5, 6), sort=False),
    packed("packed bilstm, 2 layers, states",
           lambda: nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True), states=2),
    packed("packed bilstm, 2 layers, states, total_length",
           lambda: nn.LSTM(5, 6, 2, bidirectional=True), states=2, total="steps", native=True),
    packed("packed bigru, 2 layers, state", lambda: nn.GRU(5, 6, 2, bidirectional=True), states=1),
    packed("packed gru, longer total_length", lambda: nn.GRU(5, 6, batch_first=True), total=9),
    packed("packed gru, padded with -1", lambda: nn.GRU(5, 6), padding=-1.0, total="steps",
           native=True),
    packed("packed gru, padded with -1, longer", lambda: nn.GRU(5, 6), padding=-1.0, total=9),
    packed("packed lstm, lengths in a list", lambda: nn.LSTM(5, 6), as_list=True),
    packed("packed gru, all of one length", lambda: nn.GRU(5, 6), longest=True),
]  # fmt: skip


def _sorted_by_hand(m: Any, x: Tensor, n: Tensor) -> Any:
    n, order = n.sort(0, descending=True)
    y, h = m.rnn(pack_padded_sequence(x[order], n, batch_first=True))
    y, _ = pad_packed_sequence(y, batch_first=True)
    back = order.argsort()
    return y[back], h[:, back]


def _packed_embedding(m: Any, tokens: Tensor, n: Tensor) -> Any:
    p = pack_padded_sequence(tokens, n.cpu(), batch_first=True, enforce_sorted=False)
    data = torch.tanh(m.linear(m.embedding(p.data)))
    p = PackedSequence(data, p.batch_sizes, p.sorted_indices, p.unsorted_indices)
    y, h = m.rnn(p)
    return pad_packed_sequence(y, batch_first=True, total_length=tokens.shape[1])[0], h


def _packed_twice(m: Any, x: Tensor, n: Tensor) -> Any:
    p = pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
    y, _ = m.rnn(p)
    y, h = m.second(y)
    return pad_packed_sequence(y, batch_first=True)[0], h


def _packed_again(m: Any, x: Tensor, n: Tensor) -> Any:
    p = pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(m.rnn(p)[0], batch_first=True)
    p = pack_padded_sequence(torch.tanh(y), n, batch_first=True, enforce_sorted=False)
    return m.second(p)[1]


def _last_valid(m: Any, x: Tensor, n: Tensor) -> Any:
    y, _ = m.rnn(x)
    rows = torch.arange(x.shape[0])
    return y[rows, n - 1], y.gather(1, (n - 1).view(-1, 1, 1).expand(-1, 1, y.shape[2])).squeeze(1)


PACKED += [
    example("sorted by hand", _sorted_by_hand, lambda n, t: (frames(n, t), lengths(n, t)),
            rnn=lambda: nn.GRU(5, 6, batch_first=True)),
    example("packed ids", _packed_embedding, lambda n, t: (ids(n, t), lengths(n, t)), native=True,
            embedding=lambda: nn.Embedding(VOCABULARY, 8, padding_idx=0),
            linear=lambda: nn.Linear(8, 5),
            rnn=lambda: nn.GRU(5, 6, batch_first=True, bidirectional=True)),
    example("packed, two layers in a row", _packed_twice,
            lambda n, t: (frames(n, t), lengths(n, t)),
            rnn=lambda: nn.LSTM(5, 6, batch_first=True, bidirectional=True),
            second=lambda: nn.GRU(12, 4, batch_first=True)),
    example("packed again", _packed_again, lambda n, t: (frames(n, t), lengths(n, t)),
            rnn=lambda: nn.GRU(5, 6, batch_first=True),
            second=lambda: nn.GRU(6, 4, batch_first=True)),
    example("last valid step", _last_valid, lambda n, t: (frames(n, t), lengths(n, t)),
            rnn=lambda: nn.GRU(5, 6, batch_first=True)),
]  # fmt: skip


# Cells


def _lstm_cells(m: Any, x: Tensor) -> Any:
    h, c = x.new_zeros(x.shape[0], 6), x.new_zeros(x.shape[0], 6)
    results = []
    for k in range(4):
        h, c = m.cell(x[:, k], (h, c))
        results.append(h)
    return torch.stack(results, 1), c


def _gru_cells(m: Any, x: Tensor, h: Tensor) -> Any:
    results = []
    for step in x.unbind(1):
        h = m.cell(step, h)
        results.append(m.linear(h))
    return torch.stack(results, 1), h


def _generation(m: Any, h: Tensor, token: Tensor) -> Any:
    tokens = []
    for _ in range(5):
        h = m.cell(m.embedding(token), h)
        token = m.linear(h).argmax(1)
        tokens.append(token)
    return torch.stack(tokens, 1), h


FIXED = ((3, 4), (2, 4), (5, 4))

CELLS = [
    example("lstm cells", _lstm_cells, lambda n, t: (frames(n, t),), FIXED,
            cell=lambda: nn.LSTMCell(5, 6)),
    example("gru cells", _gru_cells, lambda n, t: (frames(n, t), torch.randn(n, 6)), FIXED,
            cell=lambda: nn.GRUCell(5, 6), linear=lambda: nn.Linear(6, 3)),
    example("rnn cells", _gru_cells, lambda n, t: (frames(n, t), torch.randn(n, 6)), FIXED,
            cell=lambda: nn.RNNCell(5, 6, nonlinearity="relu"), linear=lambda: nn.Linear(6, 3)),
    example("one lstm cell", lambda m, x, h, c: m.cell(x, (h, c)),
            lambda n, t: (torch.randn(n, 5), torch.randn(n, 6), torch.randn(n, 6)),
            cell=lambda: nn.LSTMCell(5, 6, bias=False)),
    example("greedy generation", _generation, lambda n, t: (torch.randn(n, 6), ids(n)),
            embedding=lambda: nn.Embedding(VOCABULARY, 8), cell=lambda: nn.GRUCell(8, 6),
            linear=lambda: nn.Linear(6, VOCABULARY)),
]  # fmt: skip


# Front-ends, masks, selections


def _speech(m: Any, x: Tensor) -> Tensor:
    """Two strided convolutions over mel frames, BiLSTM, logarithms of CTC probabilities."""
    y = F.relu(m.norm1(m.conv1(x.transpose(1, 2))))
    y = F.relu(m.norm2(m.conv2(y))).transpose(1, 2)
    return F.log_softmax(m.linear(m.rnn(m.norm3(y))[0]), dim=-1)


def _image_speech(m: Any, x: Tensor) -> Tensor:
    """Conv2d over time and mel bands, as in Deep Speech 2."""
    y = F.hardtanh(m.norm(m.conv(x.unsqueeze(1))), 0, 20)
    y = F.max_pool2d(y, (1, 2))
    n, c, t, f = y.shape
    y = y.permute(0, 2, 1, 3).reshape(n, t, c * f)
    return m.linear(m.rnn(y)[0])


def _pooled(m: Any, tokens: Tensor) -> Any:
    y, _ = m.rnn(m.embedding(tokens))
    y = y.transpose(1, 2)
    highest = F.adaptive_max_pool1d(y, 1).squeeze(2)
    mean = F.avg_pool1d(y, 2, 1, count_include_pad=False)
    return highest, mean, y.max(2).values, y.mean(2)


def _masks(m: Any, x: Tensor, n: Tensor) -> Any:
    inside = torch.arange(x.shape[1])[None, :] < n[:, None]
    y, _ = m.rnn(x)
    y = y * inside.unsqueeze(2)
    mean = y.sum(1) / inside.sum(1, keepdim=True)
    scores = m.linear(y).squeeze(2).masked_fill(~inside, float("-inf"))
    weights = scores.softmax(1)
    highest = torch.where(inside.unsqueeze(2), y, torch.full_like(y, -1e9)).max(1).values
    return mean, weights, highest, inside, (y != 0).any(2)


def _selections(m: Any, x: Tensor) -> Any:
    y, _ = m.rnn(x)
    values, places = y.topk(2, dim=1)
    ordered, order = y.sort(dim=1, descending=True)
    return (
        values, places, ordered, order, y.argsort(dim=2), y.argmax(2), y.argmin(1),
        y.cumsum(1), y.gather(1, places), y.abs().max(), y.min(2).indices,
    )  # fmt: skip


def _integers(m: Any, tokens: Tensor) -> Any:
    known = tokens != 0
    count = known.sum(1)
    return known, count, tokens.flip(1), torch.bincount if False else tokens.clamp(max=5), count > 2


FRONT = [
    example("speech", _speech, lambda n, t: (torch.randn(n, 8 * t, 10),),
            conv1=lambda: nn.Conv1d(10, 8, 3, stride=2, padding=1), norm1=lambda: nn.BatchNorm1d(8),
            conv2=lambda: nn.Conv1d(8, 8, 3, padding=1, groups=2), norm2=lambda: nn.BatchNorm1d(8),
            norm3=lambda: nn.LayerNorm(8),
            rnn=lambda: nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True),
            linear=lambda: nn.Linear(12, 7)),
    example("speech in two dimensions", _image_speech, lambda n, t: (torch.randn(n, 4 * t, 16),),
            conv=lambda: nn.Conv2d(1, 3, (5, 7), stride=(2, 2), padding=(2, 3)),
            norm=lambda: nn.BatchNorm2d(3),
            rnn=lambda: nn.GRU(12, 6, batch_first=True, bidirectional=True),
            linear=lambda: nn.Linear(12, 7)),
    example("pooling over steps", _pooled, lambda n, t: (ids(n, t),),
            embedding=lambda: nn.Embedding(VOCABULARY, 8, padding_idx=0),
            rnn=lambda: nn.LSTM(8, 6, batch_first=True, bidirectional=True)),
    example("masks", _masks, lambda n, t: (frames(n, t), lengths(n, t)),
            rnn=lambda: nn.GRU(5, 6, batch_first=True), linear=lambda: nn.Linear(6, 1)),
    example("selections", _selections, lambda n, t: (frames(n, t),),
            rnn=lambda: nn.GRU(5, 6, batch_first=True)),
    example("integers and truth values", _integers, lambda n, t: (ids(n, t),)),
    *(example(f"bag of words, {mode}", lambda m, tokens: m.bag(tokens), lambda n, t: (ids(n, t),),
              bag=partial(nn.EmbeddingBag, VOCABULARY, 8, mode=mode, padding_idx=-3))
      for mode in ("mean", "sum", "max")),
    example("weighted bag of words", lambda m, *a: m.bag(a[0], per_sample_weights=a[1]),
            lambda n, t: (ids(n, t), torch.rand(n, t)),
            bag=lambda: nn.EmbeddingBag(VOCABULARY, 8, mode="sum")),
]  # fmt: skip


# Attention


class Bahdanau(nn.Module):
    """v·tanh(W·query + U·keys), masked."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.keys = nn.Linear(6, 8), nn.Linear(6, 8, bias=False)
        self.energy = nn.Linear(8, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        energy = self.energy(torch.tanh(self.query(query).unsqueeze(1) + self.keys(keys)))
        weights = energy.squeeze(2).masked_fill(mask, -1e9).softmax(1)
        return torch.bmm(weights.unsqueeze(1), keys).squeeze(1), weights


class Luong(nn.Module):
    """General, dot or concatenated scores."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.general = nn.Linear(6, 6, bias=False)
        self.concat, self.v = nn.Linear(12, 6), nn.Parameter(torch.rand(6))

    def forward(self, hidden: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """hidden [1, N, 6]; keys [T, N, 6]."""
        if self.form == "dot":
            energy = torch.sum(hidden * keys, dim=2)
        elif self.form == "general":
            energy = torch.einsum("onh,tnh->tn", hidden, self.general(keys))
        else:
            wide = torch.cat((hidden.expand(keys.size(0), -1, -1), keys), 2)
            energy = torch.sum(self.v * self.concat(wide).tanh(), dim=2)
        weights = F.softmax(energy.t(), dim=1).unsqueeze(1)
        return weights.bmm(keys.transpose(0, 1)), weights


class Translator(nn.Module):
    """Encoder, and an attention decoder that feeds itself for a fixed number of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.encoder = nn.GRU(8, 6, batch_first=True, bidirectional=True)
        self.bridge, self.memory = nn.Linear(12, 6), nn.Linear(12, 6)
        self.attention = Bahdanau()
        self.cell = nn.GRUCell(14, 6)
        self.linear = nn.Linear(6, VOCABULARY)

    def forward(self, source: Tensor) -> Any:
        memory, h = self.encoder(self.embedding(source))
        memory = self.memory(memory)
        h = torch.tanh(self.bridge(torch.cat((h[0], h[1]), 1)))
        token = torch.ones(source.shape[0], dtype=torch.int64)
        scores = []
        for _ in range(3):
            context, _ = self.attention(h, memory, source == 0)
            h = self.cell(torch.cat((self.embedding(token), context), 1), h)
            scores.append(self.linear(h))
            token = scores[-1].argmax(1)
        return torch.stack(scores, 1)


def heads(name: str, function: Callable[..., Any], make_inputs: Any, **options: Any) -> Example:
    return example(
        name, function, make_inputs, attention=lambda: nn.MultiheadAttention(8, 2, **options)
    )


def _wide(n: int, t: int) -> Tensor:
    return torch.randn(n, t, 8)


def _causal(t: int) -> Tensor:
    return torch.ones(t, t, dtype=torch.bool).triu(1)


ATTENTION = [
    example("bahdanau", lambda m, *a: m.attention(*a),
            lambda n, t: (torch.randn(n, 6), torch.randn(n, t, 6), torch.rand(n, t) < 0.3),
            attention=Bahdanau),
    *(example(f"luong {form}", lambda m, *a: m.attention(*a),
              lambda n, t: (torch.randn(1, n, 6), torch.randn(t, n, 6)),
              attention=partial(Luong, form))
      for form in ("dot", "general", "concat")),
    example("translator", lambda m, source: m.model(source), lambda n, t: (ids(n, t),),
            model=Translator),
    example("scaled_dot_product_attention",
            lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v),
            lambda n, t: (torch.randn(n, 2, 3, 4), torch.randn(n, 2, t, 4),
                          torch.randn(n, 2, t, 5))),
    example("scaled_dot_product_attention, causal",
            lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
            lambda n, t: (torch.randn(n, 2, t, 4),)),
    example("scaled_dot_product_attention, masked",
            lambda m, q, k, mask: F.scaled_dot_product_attention(q, k, k, attn_mask=mask),
            lambda n, t: (torch.randn(n, 2, 3, 4), torch.randn(n, 2, t, 4),
                          torch.randn(n, 1, 3, t))),
    heads("heads, no weights", lambda m, x: m.attention(x, x, x, need_weights=False)[0],
          lambda n, t: (_wide(t, n),)),
    heads("heads, weights of each", lambda m, x: m.attention(x, x, x, average_attn_weights=False),
          lambda n, t: (_wide(n, t),), batch_first=True),
    heads("heads, causal mask",
          lambda m, x: m.attention(x, x, x, attn_mask=_causal(x.shape[1]), need_weights=False)[0],
          lambda n, t: (_wide(n, t),), batch_first=True),
    heads("heads, added mask", lambda m, x, mask: m.attention(x, x, x, attn_mask=mask),
          lambda n, t: (_wide(n, t), torch.randn(t, t)), batch_first=True),
    heads("heads of other sizes", lambda m, q, k, v: m.attention(q, k, v),
          lambda n, t: (_wide(n, 3), torch.randn(n, t, 5), torch.randn(n, t, 7)),
          kdim=5, vdim=7, batch_first=True),
    heads("heads with biases of keys", lambda m, q, k: m.attention(q, k, k),
          lambda n, t: (_wide(n, 3), _wide(n, t)), add_bias_kv=True, batch_first=True),
    heads("heads with a key of zeros", lambda m, q, k: m.attention(q, k, k),
          lambda n, t: (_wide(n, 3), _wide(n, t)), add_zero_attn=True, batch_first=True),
    example("transformer layer", lambda m, x: m.layer(x), lambda n, t: (_wide(n, t),),
            layer=lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    example("transformer layers, masked",
            lambda m, x, mask: m.layers(x, src_key_padding_mask=mask),
            lambda n, t: (_wide(n, t), torch.arange(t)[None, :] >= lengths(n, t)[:, None]),
            layers=lambda: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), 2,
                enable_nested_tensor=False)),
]  # fmt: skip


# Parameters, types, structure


class Positions(nn.Module):
    """Sine positions added to embeddings, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        angles = torch.arange(30)[:, None] / 10 ** torch.arange(0, 1, 0.25)
        self.register_buffer("table", torch.cat((angles.sin(), angles.cos()), 1))
        self.rnn = nn.GRU(8, 6, batch_first=True)

    def forward(self, tokens: Tensor) -> Any:
        x = self.embedding(tokens) * math.sqrt(8) + self.table[: tokens.shape[1]]
        return self.rnn(x)[0]


def _flattened(m: Any, x: Tensor) -> Any:
    m.rnn.flatten_parameters()
    return m.rnn(x)


def _learned_start(m: Any, x: Tensor) -> Any:
    start = m.start.expand(-1, x.shape[0], -1).contiguous()
    return m.rnn(x, (start, torch.zeros_like(start)))


def _highway(m: Any, x: Tensor) -> Any:
    for layer, gate in zip(m.layers, m.gates, strict=True):
        y, _ = layer(x)
        g = torch.sigmoid(gate(x))
        x = g * F.gelu(y) + (1 - g) * x
    return x


OTHERS = [
    example("flatten_parameters", _flattened, lambda n, t: (frames(t, n),), native=True,
            rnn=lambda: nn.LSTM(5, 6)),
    example("learned initial state", _learned_start, lambda n, t: (frames(n, t),), native=True,
            rnn=lambda: nn.LSTM(5, 6, batch_first=True),
            start=lambda: nn.Parameter(torch.randn(1, 1, 6))),
    example("weight_norm", lambda m, x: m.conv(x.transpose(1, 2)), lambda n, t: (frames(n, t),),
            conv=lambda: parametrizations.weight_norm(nn.Conv1d(5, 6, 3, padding=1))),
    example("spectral_norm", lambda m, x: m.linear(x), lambda n, t: (frames(n, t),), native=True,
            linear=lambda: parametrizations.spectral_norm(nn.Linear(5, 6))),
    example("weight_norm of a layer", lambda m, x: m.rnn(x), lambda n, t: (frames(t, n),),
            native=True,
            rnn=lambda: parametrizations.weight_norm(nn.GRU(5, 6), "weight_hh_l0")),
    example("old weight_norm", lambda m, x: m.linear(x), lambda n, t: (frames(n, t),), native=True,
            linear=lambda: _old_weight_norm(nn.Linear(5, 6))),
    example("positions", lambda m, x: m.model(x), lambda n, t: (ids(n, t),), native=True,
            model=Positions),
    example("highway", _highway, lambda n, t: (frames(n, t),), native=True,
            layers=lambda: nn.ModuleList(nn.GRU(5, 5, batch_first=True) for _ in range(3)),
            gates=lambda: nn.ModuleList(nn.Linear(5, 5) for _ in range(3))),
    example("unbatched layer", lambda m, x: m.rnn(x), lambda n, t: (frames(n, t)[0],),
            native=True, rnn=lambda: nn.LSTM(5, 6, 2)),
    example("the same tensor twice", lambda m, x: (m.rnn(x)[0],) * 2 + (x,),
            lambda n, t: (frames(t, n),), rnn=lambda: nn.GRU(5, 6)),
]  # fmt: skip


def _old_weight_norm(module: nn.Module) -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(module)


MORE = [*PACKED, *CELLS, *FRONT, *ATTENTION, *OTHERS]
