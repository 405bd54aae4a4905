"""Whole models as subjects: two of the examples, a voice detector's step, a character model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.cells import Whole
from bench.models import as_onnx
from bench.subject import Subject, exported
from lightrnn.graph import Array, Graph
from lightrnn.model import load

EXAMPLES = Path(__file__).parents[1] / "examples"
UNITS = 128
CHARACTERS = 96


def whole(cell: Whole) -> Subject:
    """The model that the cell names, at its sizes."""
    return {
        "language identifier": identifier, "decoder step": decoder, "audio stream": audio,
        "character model": characters,
    }[cell.model](cell)  # fmt: skip


def identifier(cell: Whole) -> Subject:
    """examples/langid: characters to scores of thirty languages."""
    model = load(EXAMPLES / "langid" / "langid.lrnn")
    ids = np.random.default_rng(1).integers(2, 500, (cell.batch, cell.length))
    feeds = {"ids": ids, "lengths": np.full(cell.batch, cell.length)}
    graph = model.graph(model.graphs[0])
    return Subject(as_onnx(graph), feeds, list(graph.outputs))


def decoder(cell: Whole) -> Subject:
    """examples/g2p-en, one step of the decoder: GRU, attention to the letters, logits."""
    graph = load(EXAMPLES / "g2p-en" / "g2p-en.lrnn").graph("decoder")
    rng = np.random.default_rng(1)
    hidden, memory = (_width(graph, name) for name in ("hidden", "memory"))
    values: dict[str, Array] = {
        "token": rng.integers(4, 40, cell.batch),
        "hidden": rng.standard_normal((cell.batch, hidden)).astype(np.float32),
        "memory": rng.standard_normal((cell.batch, cell.length, memory)).astype(np.float32),
        "lengths": np.full(cell.batch, cell.length),
    }
    feeds = {name: values[name] for name in graph.inputs}
    return Subject(as_onnx(graph), feeds, list(graph.outputs), carried=dict(graph.states))


def _width(graph: Graph, name: str) -> int:
    shape = graph.inputs[name].shape
    assert shape is not None
    assert isinstance(shape[-1], int)
    return shape[-1]


def audio(cell: Whole) -> Subject:
    """A chunk of samples [N, length] and states [1, N, 128] to a probability and states."""
    return Subject(
        _audio_source(cell.batch, cell.length), _audio_feeds(cell.batch, cell.length),
        ["probability", "h_out", "c_out"], carried={"h": "h_out", "c": "c_out"},
        streamed=cell.way == "stream", module=detector,
    )  # fmt: skip


@cache
def _audio_source(batch: int, length: int) -> bytes:
    outputs = ["probability", "h_out", "c_out"]
    return exported(detector(), _audio_feeds(batch, length), outputs)


def _audio_feeds(batch: int, length: int) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    samples = (0.1 * rng.standard_normal((batch, length))).astype(np.float32)
    return {"samples": samples, **{n: np.zeros((1, batch, UNITS), np.float32) for n in ("h", "c")}}


def detector() -> Any:
    """A voice detector in the manner of silero-vad, with random weights.

    A Fourier transform of windows of 256 samples as a convolution, magnitudes, four convolutions,
    an LSTM of 128 units whose states come and go, a linear layer, a sigmoid.
    """
    import torch
    from torch import Tensor, nn

    class Detector(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("basis", torch.from_numpy(_fourier_basis(256)))
            channels, strides = (129, 128, 64, 64, UNITS), (1, 2, 2, 1)
            self.convolutions = nn.ModuleList(
                nn.Conv1d(a, b, 3, stride, padding=1)
                for a, b, stride in zip(channels[:-1], channels[1:], strides, strict=True)
            )
            self.lstm = nn.LSTM(UNITS, UNITS)
            self.output = nn.Linear(UNITS, 1)

        def forward(self, samples: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            both = nn.functional.conv1d(samples[:, None], self.basis, stride=128)
            x = torch.sqrt(both[:, :129] ** 2 + both[:, 129:] ** 2)
            for convolution in self.convolutions:
                x = torch.relu(convolution(x))
            y, (h_out, c_out) = self.lstm(x.permute(2, 0, 1), (h, c))
            return torch.sigmoid(self.output(y[-1])), h_out, c_out

    torch.manual_seed(0)
    return Detector().eval()


def characters(cell: Whole) -> Subject:
    """Characters [N, length] to logits of each one that follows."""
    return Subject(
        _characters_source(cell.batch, cell.length), _characters_feeds(cell.batch, cell.length),
        ["logits"],
        module=character_model,
    )  # fmt: skip


@cache
def _characters_source(batch: int, length: int) -> bytes:
    return exported(character_model(), _characters_feeds(batch, length), ["logits"])


def _characters_feeds(batch: int, length: int) -> dict[str, Array]:
    return {"ids": np.random.default_rng(1).integers(0, CHARACTERS, (batch, length))}


def character_model() -> Any:
    """An embedding, two layers of LSTM of 64 units and a linear layer, with random weights."""
    import torch
    from torch import Tensor, nn

    class Characters(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(CHARACTERS, 64)
            self.lstm = nn.LSTM(64, 64, num_layers=2, batch_first=True)
            self.output = nn.Linear(64, CHARACTERS)

        def forward(self, ids: Tensor) -> Tensor:
            return self.output(self.lstm(self.embedding(ids))[0])

    torch.manual_seed(0)
    return Characters().eval()


def _fourier_basis(size: int) -> Array:
    """Cosines, then sines, of a Hann window: float32 [size + 2, 1, size]."""
    time, frequency = np.arange(size), np.arange(size // 2 + 1)[:, None]
    angle = 2 * np.pi * frequency * time / size
    basis = np.concatenate([np.cos(angle), np.sin(angle)]) * np.hanning(size)
    return np.asarray(basis[:, None], np.float32)
