"""docs/models.md: every section has Python blocks, and all of them run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightrnn.errors import InputError
from tests.command import ROOT
from tests.torch_conversion import assert_agrees, convert, wanted

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
TITLES = re.findall(r"^### (.+)$", PAGE, re.M)


class Loop(nn.Module):
    """A cell over the steps of [N, T, 4], as textbooks write it: the last result."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.size(1)):
            state = self.cell(x[:, t], state)
        last: Tensor = state[0] if isinstance(state, tuple) else state
        return last


class Sentence(nn.Module):
    """The tutorials' tagger of one sentence, ids [T] to [T, 3]."""

    def __init__(self, steps: Callable[[Tensor], int]) -> None:
        super().__init__()
        self.embedding, self.lstm, self.linear = nn.Embedding(9, 6), nn.LSTM(6, 6), nn.Linear(6, 3)
        self.steps = steps

    def forward(self, ids: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(ids).view(self.steps(ids), 1, -1))
        return torch.log_softmax(self.linear(y.view(self.steps(ids), -1)), dim=1)


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def section(title: str) -> str:
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##+ |\Z)", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


def anchor(title: str) -> str:
    """What GitHub calls a heading in links."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_the_table_lists_the_sections() -> None:
    rows = re.findall(r"^\| \[(.+)\]\(#(.+?)\) \| .+ \| .+ \|$", PAGE, re.M)
    assert rows == [(title, anchor(title)) for title in TITLES]


@pytest.mark.parametrize("title", TITLES)
def test_recipes_run(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A section's blocks, in order, after the page's first one; they end with a comparison."""
    recipes = blocks(section(title))
    assert recipes, f"{title} has no Python block"
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    with torch.random.fork_rng(), torch.no_grad():
        for block in (blocks(PAGE)[0], *recipes):
            exec(compile(block, title, "exec"), names)
    assert all(re.search(r"^ *(assert|np\.testing\.)", block, re.M) for block in recipes)
    assert list(tmp_path.glob("*.lrnn"))


@pytest.mark.parametrize(
    ("cell", "layer"), [(nn.RNNCell, nn.RNN), (nn.GRUCell, nn.GRU), (nn.LSTMCell, nn.LSTM)]
)
def test_a_loop_takes_its_own_number_of_steps_and_a_layer_any(cell: Any, layer: Any) -> None:
    torch.manual_seed(0)
    loop, whole = Loop(cell(4, 6)), layer(4, 6, batch_first=True)
    whole.load_state_dict({f"{k}_l0": v for k, v in loop.cell.state_dict().items()})
    unrolled, model = (convert(module.eval(), torch.randn(2, 5, 4)) for module in (loop, whole))
    with pytest.raises(InputError, match="shape"):
        unrolled(torch.zeros(3, 8, 4).numpy())
    for steps, name, converted in ((5, "output", unrolled), (8, "output_0", model)):
        x = torch.randn(3, steps, 4)
        found = converted.run({converted.inputs[0].name: x.numpy()})[name]
        last = found if converted is unrolled else found[:, -1]
        assert_agrees({"last": last}, wanted(loop, (x,)))


def test_len_fixes_a_length_and_size_does_not() -> None:
    torch.manual_seed(0)
    ids = torch.randint(9, (8,))
    with pytest.raises(InputError, match="shape"):
        convert(Sentence(len), ids[:5])(ids.numpy())
    module = Sentence(lambda ids: ids.size(0))
    found = convert(module, ids[:5]).run({"ids": ids.numpy()})
    assert_agrees(found, wanted(module, (ids,)))
