"""torch's own control flow, as its exporters write it, against the modules themselves."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import convert_onnx
from torch import Tensor, nn

import lightrnn
from lightrnn.graph import Graph


class Conditional(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: 2 * x, lambda x: x - 1, (x,))


class Scanned(nn.Module):
    """A GRU cell over time by torch's scan."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 6)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        from torch._higher_order_ops.scan import scan

        def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.cell(x, h)
            return h, h.clone()

        return scan(step, h, x, dim=0)


class Counted(nn.Module):
    def forward(self, x: Tensor, n: Tensor) -> Any:
        from torch._higher_order_ops.while_loop import while_loop

        start = (torch.tensor(0), x)
        return while_loop(lambda i, x: i < n, lambda i, x: (i + 1, 1.5 * x - 0.1), start)


class Scripted(nn.Module):
    """An LSTM cell in a Python loop, its states collected in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.zeros(x.size(1), 6)
        c = torch.zeros(x.size(1), 6)
        states = []
        for t in range(x.size(0)):
            h, c = self.cell(x[t], (h, c))
            states.append(h)
        return torch.stack(states), h


def exported(module: nn.Module, args: tuple[Tensor, ...]) -> Any:
    """Through torch.export."""
    return torch.onnx.export(module, args, dynamo=True, verbose=False).model_proto


def scripted(module: nn.Module, args: tuple[Tensor, ...]) -> bytes:
    """Through TorchScript, time and batch dynamic."""
    target = io.BytesIO()
    torch.onnx.export(
        torch.jit.script(module), args, target, dynamo=False, opset_version=17,
        input_names=["x"], dynamic_axes={"x": {0: "T", 1: "N"}},
    )  # fmt: skip
    return target.getvalue()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


EXAMPLES = (
    (Conditional(), exported, "If", [(abs(random(3, 4)),), (-abs(random(3, 4)),)]),
    (Scanned(), exported, "Scan", [(random(5, 2, 4), random(2, 6))]),
    (Counted(), exported, "Loop", [(random(3, 4), torch.tensor(n)) for n in (3, 0, 7)]),
    (Scripted(), scripted, "Loop", [(random(t, n, 4),) for t, n in ((5, 2), (1, 3), (9, 1))]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("module", "export", "op", "trials"), EXAMPLES, ids=[type(e[0]).__name__ for e in EXAMPLES]
)
def test_exported_control_flow_agrees_with_the_module(
    module: nn.Module,
    export: Callable[[nn.Module, tuple[Tensor, ...]], Any],
    op: str,
    trials: list[tuple[Tensor, ...]],
) -> None:
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = export(module.eval(), trials[0])
    convert_onnx(source, target)
    model = lightrnn.load(target.getvalue(), threads=1)
    stored = model.graph("main")
    assert isinstance(stored, Graph)
    assert op in {node.op for node in stored.nodes}
    for args in trials:
        with torch.no_grad():
            wanted = module(*args)
        found = model(*(np.asarray(a.numpy()) for a in args))
        pairs = zip(_tuple(found), _tuple(wanted), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-6, strict=True)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
