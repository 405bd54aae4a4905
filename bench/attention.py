"""Attention layers as subjects: torch modules with random weights, as torch exports them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bench.cells import Attention
from bench.subject import Subject, exported
from lightrnn.graph import Array

SIZE, HEADS = 256, 4


def attention(cell: Attention) -> Subject:
    """query [N, Q, 256] and memory [N, K, 256] to y [N, Q, 256]."""
    return Subject(
        _source(cell.kind),
        _feeds(cell.queries, cell.keys, cell.batch),
        ["y"],
        module=lambda: module(cell.kind),
    )


def module(kind: str) -> Any:
    """A module of one of the kinds of `cells.Attention`.

    multi-head: torch's own, keys and values projected from one memory. additive: Bahdanau et al.,
    2015, v·tanh(W·query + U·memory). concatenated: Luong et al., 2015, of one query, which is
    repeated at every key and joined with it: v·tanh(W·[query, memory]).
    """
    import torch
    from torch import Tensor, nn

    class MultiHead(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(SIZE, HEADS, batch_first=True)

        def forward(self, query: Tensor, memory: Tensor) -> Tensor:
            return self.attention(query, memory, memory, need_weights=False)[0]

    class Additive(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.query, self.memory = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE, bias=False)
            self.score = nn.Linear(SIZE, 1, bias=False)

        def forward(self, query: Tensor, memory: Tensor) -> Tensor:
            both = self.query(query)[:, :, None] + self.memory(memory)[:, None]
            weights = torch.softmax(self.score(torch.tanh(both))[..., 0], dim=2)
            return weights @ memory

    class Concatenated(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.both, self.score = nn.Linear(2 * SIZE, SIZE), nn.Linear(SIZE, 1, bias=False)

        def forward(self, query: Tensor, memory: Tensor) -> Tensor:
            joined = torch.cat((query.repeat(1, memory.shape[1], 1), memory), dim=2)
            scores = self.score(torch.tanh(self.both(joined)))
            return torch.bmm(torch.softmax(scores, dim=1).transpose(1, 2), memory)

    torch.manual_seed(0)
    modules: dict[str, Any] = {
        "multi-head": MultiHead, "additive": Additive, "concatenated": Concatenated,
    }  # fmt: skip
    return modules[kind]().eval()


@cache
def _source(kind: str) -> bytes:
    from torch.export import Dim

    batch, queries, keys = Dim("batch"), Dim("queries"), Dim("keys")
    if kind == "concatenated":
        shapes, rows = ({0: batch}, {0: batch, 1: keys}), 1
    else:
        shapes, rows = ({0: batch, 1: queries}, {0: batch, 1: keys}), 3
    return exported(module(kind), _feeds(rows, 5, 2), ["y"], shapes)


def _feeds(queries: int, keys: int, batch: int) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {
        name: rng.standard_normal((batch, length, SIZE)).astype(np.float32)
        for name, length in (("query", queries), ("memory", keys))
    }
