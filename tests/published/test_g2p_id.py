"""g2p-id-py 0.4.2: Indonesian spelling to phonemes by ONNX LSTMs, against its onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightrnn_converters import convert_onnx, verify

import lightrnn
from lightrnn.graph import Array
from tests.published.fetch import Release, imported

pytestmark = pytest.mark.network

RELEASE = Release(
    "g2p-id-py", "0.4.2", "0b9ce7e76be2e8d1738c604751d05e0a8aa1b2ce2199fce27a115d350468e671",
    ("g2p_id/lstm.py", "g2p_id/onnx_utils.py", "g2p_id/models/",
     "g2p_id/resources/lexicon_id.tsv"),
)  # fmt: skip
GRAPHS = ("encoder", "decoder")


def source(graph: str) -> str:
    return str(RELEASE.folder() / f"g2p_id/models/lstm/{graph}_model.onnx")


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The package's `LSTM`: `predict`, and its sessions `encoder` and `decoder`."""
    folder = RELEASE.folder()
    with imported(folder, "g2p_id.lstm", {"g2p_id": {"__path__": [str(folder / "g2p_id")]}}) as m:
        yield m.LSTM()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> lightrnn.Model:
    path = tmp_path_factory.mktemp("g2p_id") / "g2p_id.lrnn"
    states = {"decoder": {"input_3": "lstm_1", "input_4": "lstm_1_1"}}
    convert_onnx({name: source(name) for name in GRAPHS}, path, states=states)
    return lightrnn.load(path)


def words() -> list[str]:
    """Words of the package's lexicon that its model can spell, one in fifty."""
    lexicon = RELEASE.folder() / "g2p_id/resources/lexicon_id.tsv"
    listed = [line.split("\t")[0] for line in lexicon.read_text().splitlines()]
    plain = [w for w in listed if len(w) <= 24 and set(w) <= set("abcdefghijklmnopqrstuvwyz'-")]
    return [*plain[::50], "x-ray".replace("x", "eks"), "a", "'", "z" * 24]


class Session:
    """One graph of a model under onnxruntime's `run`."""

    def __init__(self, model: lightrnn.Model, graph: str) -> None:
        self._model, self._graph = model, graph

    def run(self, names: None, feeds: Mapping[str, Array]) -> list[Array]:
        return list(self._model.run(feeds, graph=self._graph).values())


def test_all_words_have_the_package_s_phonemes(model: lightrnn.Model, package: Any) -> None:
    listed = words()
    assert len(listed) > 300
    wanted = {word: package.predict(word) for word in listed}
    with pytest.MonkeyPatch.context() as patch:
        for name in GRAPHS:
            patch.setattr(package, name, Session(model, name))
        found = {word: package.predict(word) for word in listed}
    assert found == wanted


@pytest.mark.parametrize("graph", GRAPHS)
def test_outputs_agree(model: lightrnn.Model, graph: str) -> None:
    report = verify(model, source(graph), graph=graph)
    assert report.passed, report


def test_a_stream_of_the_decoder_carries_its_states(model: lightrnn.Model, package: Any) -> None:
    rng = np.random.default_rng(0)
    tokens = np.eye(32, dtype=np.float32)[rng.integers(0, 32, (2, 20))]
    feeds = {name: np.zeros((2, 256), np.float32) for name in ("input_3", "input_4")}
    whole = package.decoder.run(None, {"input_2": tokens, **feeds})[0]
    stream = model.stream("decoder")
    cuts = ((0, 1), (1, 9), (9, 20))
    pieces = [stream.step({"input_2": tokens[:, a:b]})["dense"] for a, b in cuts]
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, rtol=0, atol=1e-5)


@pytest.mark.native
def test_both_graphs_are_one_native_call(model: lightrnn.Model) -> None:
    shapes = {"input_2": (1, 1, 32), "input_3": (1, 256), "input_4": (1, 256)}
    for plan in (model.plan({"input_1": (1, 24, 28)}, "encoder"), model.plan(shapes, "decoder")):
        assert (plan.host_steps, plan.native_calls) == ((), 1)


def test_the_package_s_other_model_a_transformer(tmp_path: Path) -> None:
    path = str(RELEASE.folder() / "g2p_id/models/bert/bert_mlm.onnx")
    convert_onnx(path, tmp_path / "bert.lrnn")
    letters = np.random.default_rng(0).integers(0, 30, (3, 32))
    report = verify(tmp_path / "bert.lrnn", path, {"input_1": letters})
    assert report.passed, report
