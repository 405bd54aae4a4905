"""torch's scaled dot-product attention converts at any rank and with any mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tests.torch_conversion import ATOL, convert


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return scaled_dot_product_attention(q, k, v, mask, **self.options)


def draw(*lead: int, queries: int, keys: int, value: int = 8) -> list[Tensor]:
    sizes = (queries, 8), (keys, 8), (keys, value)
    return [torch.randn(*lead, *size) for size in sizes]


def agree(module: nn.Module, example: list[Tensor], arguments: list[Tensor]) -> None:
    found = convert(module, tuple(example))(*(a.numpy() for a in arguments))
    np.testing.assert_allclose(found, module(*arguments).numpy(), atol=ATOL)


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"is_causal": True}])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (2, 3, 2)])
def test_any_rank(lead: tuple[int, ...], options: dict[str, Any]) -> None:
    example = draw(*lead, queries=7, keys=5)
    agree(Attention(**options), example, draw(*lead, queries=4, keys=9))


def test_values_of_another_size() -> None:
    example = draw(2, queries=7, keys=5, value=6)
    agree(Attention(), example, draw(3, queries=4, keys=9, value=6))


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (2, 1, 1, 5), (1, 1, 7, 5), (2, 3, 7, 5)])
def test_masks_that_leave_a_query_no_key_give_zeros(shape: tuple[int, ...], truth: bool) -> None:
    tensors, mask = draw(2, 3, queries=7, keys=5), torch.rand(shape) < 0.5
    mask[..., -1, :] = False
    if not truth:
        mask = torch.zeros(shape).masked_fill(~mask, -torch.inf)
    model = convert(Attention(), (*tensors, mask))
    found = np.asarray(model(*(a.numpy() for a in (*tensors, mask))))
    assert not found[:, :, -1].any()
    np.testing.assert_allclose(found, Attention()(*tensors, mask).numpy(), atol=ATOL)


class Grouped(nn.Module):
    """Six heads of queries, two of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(12, 48), nn.Linear(12, 32)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (6, 8)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, 16)).transpose(1, 2).chunk(2, -1)
        y = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return y.transpose(1, 2).flatten(2)


def test_heads_that_share_keys() -> None:
    module, x = Grouped().eval(), torch.randn(3, 9, 12)
    with torch.no_grad():
        agree(module, [torch.randn(2, 5, 12)], [x])
