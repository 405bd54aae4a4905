"""torch functions that its exporter would write as loops, written without."""

from __future__ import annotations

from typing import Any


def embedding_bag(
    tokens: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """`torch.nn.functional.embedding_bag` of bags of one size, tokens [N, T]: [N, D].

    NotImplemented for bags that offsets divide, and for max_norm.
    """
    import torch

    if tokens.dim() != 2 or offsets is not None or max_norm is not None:
        return NotImplemented
    x = torch.nn.functional.embedding(tokens, weight)
    if per_sample_weights is not None:
        x = x * per_sample_weights.unsqueeze(2)
    inside = torch.ones_like(tokens, dtype=torch.bool)
    if padding_idx is not None:
        inside = tokens != padding_idx % weight.shape[0]
    count = inside.sum(1, keepdim=True)
    if mode == "max":
        x = x.masked_fill(~inside.unsqueeze(2), float("-inf")).amax(1)
        return torch.where(count > 0, x, torch.zeros_like(x))
    x = x.masked_fill(~inside.unsqueeze(2), 0.0).sum(1)
    return x if mode == "sum" else x / count.clamp(min=1)
