"""g2p-en 2.1.0: a GRU encoder-decoder from English spelling to phonemes, against its own NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import TorchGraph, convert_torch_graphs
from torch import Tensor, nn

import lightrnn
from lightrnn.graph import Array
from tests.published.fetch import Release, imported

pytestmark = [pytest.mark.network, pytest.mark.filterwarnings("ignore::ResourceWarning")]

RELEASE = Release(
    "g2p-en", "2.1.0", "2a7aabf1fc7f270fcc3349881407988c9245173c2413debbe5432f4a4f31319f",
    ("g2p_en/",),
)  # fmt: skip
START, END, LONGEST = 2, 3, 20
SIZE = 256
ODD_WORDS = ["a", "zzzzz", "supercalifragilisticexpialidocious", "it's", "naïve", "", "x-ray"]


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The package's `G2p`, without the dictionaries that come before its model."""
    stand_ins: dict[str, dict[str, Any]] = {
        "nltk": {"pos_tag": None, "data": _Found()},
        "nltk.corpus": {"cmudict": _NoDictionary()},
        "nltk.tokenize": {"TweetTokenizer": _NoTokenizer},
        "g2p_en.expand": {"normalize_numbers": None},
    }
    with imported(RELEASE.folder(), "g2p_en.g2p", stand_ins) as module:
        yield module.G2p()


class _Found:
    def find(self, name: str) -> None:
        """Whatever is asked for is there."""


class _NoDictionary:
    def dict(self) -> dict[str, Any]:
        return {}


class _NoTokenizer:
    tokenize = None


class Encoder(nn.Module):
    """Letters [1, T] to the last hidden state [1, H]."""

    def __init__(self, weights: dict[str, Array]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(*weights["enc_emb"].shape)
        self.rnn = nn.GRU(SIZE, SIZE, batch_first=True)
        load(self.embedding, weight=weights["enc_emb"])
        load(self.rnn, **{f"{w}_{k}_l0": v for w, k, v in gates(weights, "enc")})

    def forward(self, letters: Tensor) -> Tensor:
        h: Tensor = self.rnn(self.embedding(letters))[1]
        return h[0]


class Decoder(nn.Module):
    """A phoneme [1] and the hidden state [1, H] to the next ones' logits and hidden state."""

    def __init__(self, weights: dict[str, Array]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(*weights["dec_emb"].shape)
        self.cell = nn.GRUCell(SIZE, SIZE)
        self.linear = nn.Linear(SIZE, len(weights["fc_b"]))
        load(self.embedding, weight=weights["dec_emb"])
        load(self.cell, **{f"{w}_{k}": v for w, k, v in gates(weights, "dec")})
        load(self.linear, weight=weights["fc_w"], bias=weights["fc_b"])

    def forward(self, phoneme: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.cell(self.embedding(phoneme), hidden)
        return self.linear(hidden), hidden


def gates(weights: dict[str, Array], side: str) -> Iterator[tuple[str, str, Array]]:
    """(weight or bias, ih or hh, value) of one side's GRU."""
    for letter, word in (("w", "weight"), ("b", "bias")):
        for kind in ("ih", "hh"):
            yield word, kind, weights[f"{side}_{letter}_{kind}"]


def load(module: nn.Module, **arrays: Array) -> None:
    """Set all of a module's parameters."""
    module.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in arrays.items()})


@pytest.fixture(scope="module")
def model(package: Any, tmp_path_factory: pytest.TempPathFactory) -> lightrnn.Model:
    path = tmp_path_factory.mktemp("g2p_en") / "g2p_en.lrnn"
    weights = dict(package.variables)
    graphs = {
        "encoder": TorchGraph(
            Encoder(weights), (torch.tensor([[3, 4, 5]]),), output_names=["hidden"]
        ),
        "decoder": TorchGraph(
            Decoder(weights), (torch.tensor([2, 3]), torch.zeros(2, SIZE)),
            output_names=["logits", "next_hidden"], states={"hidden": "next_hidden"},
        ),
    }  # fmt: skip
    convert_torch_graphs(graphs, path)
    return lightrnn.load(path)


def words(package: Any) -> list[str]:
    """The headwords of the package's homographs, and a few that are none."""
    return [*package.homograph2features, *ODD_WORDS]


def predict(model: lightrnn.Model, package: Any, word: str) -> list[str]:
    letters = [package.g2idx.get(c, package.g2idx["<unk>"]) for c in [*word, "</s>"]]
    hidden = model.run({"letters": np.array([letters])}, graph="encoder")["hidden"]
    phonemes: list[str] = []
    token = START
    while len(phonemes) < LONGEST:
        step = model.run({"phoneme": np.array([token]), "hidden": hidden}, graph="decoder")
        token, hidden = int(step["logits"].argmax()), step["next_hidden"]
        if token == END:
            break
        phonemes.append(package.idx2p[token])
    return phonemes


def test_all_words_have_the_package_s_phonemes(model: lightrnn.Model, package: Any) -> None:
    listed = words(package)
    assert len(listed) > 300
    assert {w: predict(model, package, w) for w in listed} == {
        w: package.predict(w) for w in listed
    }


def test_hidden_states_agree(model: lightrnn.Model, package: Any) -> None:
    for word in words(package)[::20]:
        x = package.encode(word)
        sides = [getattr(package, f"enc_{n}") for n in ("w_ih", "w_hh", "b_ih", "b_hh")]
        wanted = package.gru(x, len(word) + 1, *sides)[:, -1]
        letters = [package.g2idx.get(c, package.g2idx["<unk>"]) for c in [*word, "</s>"]]
        found = model.run({"letters": np.array([letters])}, graph="encoder")["hidden"]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.native
def test_both_graphs_are_one_native_call(model: lightrnn.Model) -> None:
    encoder = model.plan({"letters": (1, 9)}, "encoder")
    decoder = model.plan({"phoneme": (1,), "hidden": (1, SIZE)}, "decoder")
    assert [p.host_steps for p in (encoder, decoder)] == [(), ()]
    assert [p.native_calls for p in (encoder, decoder)] == [1, 1]
