"""torch modules as streams, and the page that shows one."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightrnn_converters import convert_torch
from torch import Tensor, nn

import lightrnn
from lightrnn.errors import UnsupportedError
from tests.streams import in_pieces

IDS = np.random.default_rng(0).integers(0, 10, (13, 2))


class Tagger(nn.Module):
    """Embedding, two layers, linear: scores for each step, and for the last."""

    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.rnn = kind(8, 6, 2, batch_first=batch_first)
        self.norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 4)
        self.last = -1 if not batch_first else (slice(None), -1)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.rnn(self.embedding(ids))
        h = state[0] if isinstance(state, tuple) else state
        scores = torch.log_softmax(self.linear(self.norm(y)), -1)
        return scores, self.linear(h[-1]) + y[self.last].sum(-1, keepdim=True)


class Around(nn.Module):
    """A layer between two other modules; channels first where the first one wants it so."""

    def __init__(self, before: nn.Module, rnn: nn.RNNBase, after: nn.Module) -> None:
        super().__init__()
        self.before, self.rnn, self.after = before, rnn, after

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.before, nn.Conv1d):
            x = self.before(x.transpose(1, 2)).transpose(1, 2)
        y: Tensor = self.after(self.rnn(x)[0])
        return y


def converted(module: nn.Module, *example: Tensor) -> lightrnn.Model:
    target = io.BytesIO()
    convert_torch(module.eval(), example, target)
    return lightrnn.load(target.getvalue())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_torch_models_in_pieces(kind: type[nn.RNNBase], batch_first: bool) -> None:
    torch.manual_seed(0)
    module = Tagger(kind, batch_first=batch_first)
    model = converted(module, torch.ones((3, 4), dtype=torch.int64))
    ids = IDS.T if batch_first else IDS
    with torch.no_grad():
        scores, last = (t.numpy() for t in module(torch.from_numpy(ids)))
    axis = 1 if batch_first else 0
    names = list(model.graph("main").outputs)
    for cut in ((13,), (1,) * 13, (5, 1, 7)):
        found = in_pieces(model.stream(), {"ids": ids}, {"ids": axis}, cut)
        pieces = np.concatenate([r[names[0]] for r in found], axis)
        np.testing.assert_allclose(pieces, scores, atol=1e-5)
        np.testing.assert_allclose(found[-1][names[1]], last, atol=1e-5)


@pytest.mark.parametrize(
    ("before", "rnn", "after", "message"),
    [
        (
            nn.Conv1d(4, 4, 3, padding=1), nn.GRU(4, 4, batch_first=True), nn.Identity(),
            "Conv node .* has windows of 3 over time",
        ),
        (
            nn.Identity(), nn.LSTM(4, 4, batch_first=True, bidirectional=True), nn.Identity(),
            "LSTM node .* is bidirectional",
        ),
        (nn.Identity(), nn.GRU(4, 4, batch_first=True), nn.Softmax(1), "Softmax node .* over time"),
    ],
)  # fmt: skip
def test_torch_models_that_need_the_whole(
    before: nn.Module, rnn: nn.RNNBase, after: nn.Module, message: str
) -> None:
    model = converted(Around(before, rnn, after), torch.randn(3, 7, 4))
    with pytest.raises(UnsupportedError, match=message):
        model.stream()


def test_a_convolution_of_one_step_is_no_obstacle() -> None:
    torch.manual_seed(0)
    module = Around(nn.Conv1d(4, 3, 1), nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2))
    model = converted(module, torch.randn(3, 7, 4))
    x = torch.randn(2, 13, 4)
    with torch.no_grad():
        whole = module(x).numpy()
    found = in_pieces(model.stream(), {"x": x.numpy()}, {"x": 1}, (3, 1, 9))
    np.testing.assert_allclose(np.concatenate([r["output"] for r in found], 1), whole, atol=1e-5)


def test_the_page_on_streams_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs/streaming.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, {"__name__": "page"})
