"""e2k 0.8.1, c2k-turbo: English to Katakana by GRUs and attention, against its own NumPy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import TorchGraph, convert_torch_graphs
from torch import Tensor, nn

import lightrnn
from lightrnn.graph import Array
from tests.published.fetch import Release, imported

pytestmark = pytest.mark.network

RELEASE = Release(
    "e2k", "0.8.1", "0092d4572b3c846a4e5a7492a179eb2c5ee4f198df3279f17e8cae232b09db9f",
    ("e2k/__init__.py", "e2k/inference.py", "e2k/models/model-c2k-turbo.safetensors"),
)  # fmt: skip
WEIGHTS = "e2k/models/model-c2k-turbo.safetensors"
HEADS, LONGEST = 4, 16
LICENSE = Path(__file__).parents[2] / "LICENSE"


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The package's `C2K`: `in_table`, `out_table`, `s2s.forward`."""
    folder = RELEASE.folder()
    with imported(folder, "e2k.inference", {}) as module:
        yield module.C2K(path=str(folder / WEIGHTS))


def stored() -> dict[str, Tensor]:
    """The weights as they were published, in float16."""
    from safetensors.torch import load_file

    weights = load_file(RELEASE.folder() / WEIGHTS)
    assert {w.dtype for w in weights.values()} == {torch.float16}
    return weights


class Encoder(nn.Module):
    """Letters [N, T] to memory [N, T, E]."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.e_emb = nn.Embedding(*weights["e_emb.weight"].shape)
        hidden, size = weights["encoder.weight_ih_l0"].shape
        self.encoder = nn.GRU(size, hidden // 3, batch_first=True, bidirectional=True)
        rows, columns = weights["encoder_fc.0.weight"].shape
        self.encoder_fc = nn.Sequential(nn.Linear(columns, rows), nn.Tanh())
        load(self, weights)

    def forward(self, letters: Tensor) -> Tensor:
        memory: Tensor = self.encoder_fc(self.encoder(self.e_emb(letters))[0])
        return memory


class Decoder(nn.Module):
    """One step: the last token [N], both hidden states [1, N, H] and memory to logits [N, V]."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.k_emb = nn.Embedding(*weights["k_emb.weight"].shape)
        for name in ("pre_decoder", "post_decoder"):
            hidden, size = weights[f"{name}.weight_ih_l0"].shape
            setattr(self, name, nn.GRU(size, hidden // 3, batch_first=True))
        size = len(weights["attn.out_proj.bias"])
        self.attn = nn.MultiheadAttention(size, HEADS, batch_first=True)
        self.fc = nn.Linear(*weights["fc.weight"].shape[::-1])
        load(self, weights)

    def forward(self, token: Tensor, before: Tensor, after: Tensor, memory: Tensor) -> Any:
        x, before = self.pre_decoder(self.k_emb(token[:, None]), before)
        context, attention = self.attn(x, memory, memory)
        x, after = self.post_decoder(torch.cat((x, context), -1), after)
        return self.fc(x[:, 0]), before, after, attention


def load(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Set all of a module's parameters."""
    module.load_state_dict({name: weights[name].float() for name in module.state_dict()})


@pytest.fixture(scope="module", params=["float32", "float16"])
def model(request: Any, package: Any, tmp_path_factory: pytest.TempPathFactory) -> lightrnn.Model:
    path = tmp_path_factory.mktemp("e2k") / "c2k.lrnn"
    weights = stored()
    encoder, decoder = Encoder(weights), Decoder(weights)
    sizes = [len(weights[f"{n}.bias_hh_l0"]) // 3 for n in ("pre_decoder", "post_decoder")]
    states = [torch.zeros(1, 2, size) for size in sizes]
    memory = encoder(torch.zeros(2, 5, dtype=torch.int64)).detach()
    graphs = {
        "encoder": TorchGraph(encoder, (torch.tensor([[3, 4, 5]]),), output_names=["memory"]),
        "decoder": TorchGraph(
            decoder, (torch.tensor([1, 2]), *states, memory),
            output_names=["logits", "next_before", "next_after", "attention"],
            states={"before": "next_before", "after": "next_after"},
        ),
    }  # fmt: skip
    convert_torch_graphs(graphs, path, dtype=request.param)
    assert path.stat().st_size < (1.1 if request.param == "float16" else 2.1) * sum(
        w.nbytes for w in weights.values()
    )
    return lightrnn.load(path)


def words() -> list[str]:
    """Every word of the project's licence, and a few that are none."""
    found = re.findall(r"[a-z]+", LICENSE.read_text().lower())
    return [*sorted(set(found)), "", "q", "lightrnn", "it's", "aaaaaaaaaaaaaaaaaaaaaaaa", "Tokyo"]


def letters(package: Any, word: str) -> Array:
    ids = [package.in_table[c] for c in word.lower() if c in package.in_table]
    return np.array([[package.s2s.sos_idx, *ids, package.s2s.eos_idx]])


def decode(model: lightrnn.Model, package: Any, word: str) -> tuple[str, list[Array]]:
    """The text, and the logits of each step."""
    memory = model.run({"letters": letters(package, word)}, graph="encoder")["memory"]
    stream = model.stream("decoder")
    token, text = package.s2s.sos_idx, ""
    logits: list[Array] = []
    while len(logits) < LONGEST:
        step = stream.step({"token": np.array([token]), "memory": memory})
        logits.append(step["logits"][0])
        token = int(step["logits"].argmax())
        if token == package.s2s.eos_idx:
            break
        text += package.out_table[token]
    return text, logits


def test_all_words_have_the_package_s_katakana_and_logits(
    model: lightrnn.Model, package: Any
) -> None:
    listed = words()
    assert len(listed) > 400
    for word in listed:
        wanted: list[Array] = []

        def greedy(logits: Array, seen: list[Array] = wanted) -> Any:
            seen.append(logits)
            return logits.argmax()

        package.s2s.forward(letters(package, word)[0], greedy)
        text, logits = decode(model, package, word)
        assert text == package(word), word
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-3)


@pytest.mark.native
def test_both_graphs_are_one_native_call(model: lightrnn.Model) -> None:
    inputs = model.graph("decoder").inputs
    shapes = {n: [d if isinstance(d, int) else 1 for d in t.shape or ()] for n, t in inputs.items()}
    for plan in (model.plan({"letters": (1, 9)}, "encoder"), model.plan(shapes, "decoder")):
        assert plan.host_steps == ()
        assert plan.native_calls == 1
