"""silero-vad 6.2.3: voice activity in a stream of audio, each ONNX file against onnxruntime.

At each step a model hears 512 samples at 16 kHz, 32 ms, after the 64 before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from lightrnn_converters import convert_onnx

import lightrnn
from lightrnn.cli import main
from lightrnn.graph import Array
from tests.published.fetch import Release

pytestmark = pytest.mark.network

RELEASE = Release(
    "silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    ("silero_vad/data/",),
)  # fmt: skip
RATE, CHUNK, CONTEXT = 16000, 512, 64
CHUNKS = 120


@dataclass(frozen=True)
class File:
    """A model that hears one chunk a step.

    rated: whether it takes the sample rate, which is bound then. sizes: dimensions that are fixed.
    """

    name: str
    rated: bool = True
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return str(RELEASE.folder() / f"silero_vad/data/{self.name}.onnx")

    def convert(self, target: Path) -> None:
        bound = {"sr": RATE} if self.rated else {}
        convert_onnx(self.path, target, states={"state": "stateN"}, bind=bound, dims=self.sizes)


FILES = [
    File("silero_vad", sizes={"state_1": 1}),
    File("silero_vad", sizes={"input_0": 1, "input_1": CONTEXT + CHUNK}),
    File("silero_vad_16k_op15"),
    File("silero_vad_half", rated=False),
    File("silero_vad_op18_ifless"),
    File("silero_vad_openvino_16k", rated=False),
]


def audio(batch: int, seed: int) -> Array:
    """Audio [batch, samples]: vowels of a gliding pitch through formants, pauses, clicks, noise."""
    rng = np.random.default_rng(seed)
    count = CHUNKS * CHUNK
    time = np.arange(count) / RATE
    rows = []
    for _ in range(batch):
        pitch = 120 + 40 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * time) + rng.uniform(-20, 60)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        formants = rng.permutation([730.0, 1090.0, 2440.0, 300.0, 870.0])[:3]
        voice = np.zeros(count)
        for harmonic in range(1, 30):
            gain = sum(np.exp(-(((harmonic * pitch - f) / 150) ** 2)) for f in formants)
            voice += (gain + 0.05 / harmonic) * np.sin(harmonic * phase)
        speaking = np.clip(np.sin(2 * np.pi * 1.3 * time) * 4, 0, 1) * (time % 2 < 1.4)
        loudness = rng.choice([0.001, 0.01, 0.05], count // 4096 + 1).repeat(4096)[:count]
        rows.append(0.2 * voice * speaking + loudness * rng.standard_normal(count))
    return np.clip(np.stack(rows), -1, 1).astype(np.float32)


def chunks(sound: Array) -> Iterator[Array]:
    """Each chunk [batch, 576] with the samples before it, as the package's wrapper cuts them."""
    padded = np.pad(sound, ((0, 0), (CONTEXT, 0)))
    for k in range(0, sound.shape[1], CHUNK):
        yield np.ascontiguousarray(padded[:, k : k + CONTEXT + CHUNK])


def session(path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def reference(file: File, sound: Array) -> tuple[Array, Array]:
    """onnxruntime's probabilities [batch, chunks] and states after each chunk."""
    run = session(file.path).run
    rate = {"sr": np.array(RATE)} if file.rated else {}
    state = np.zeros((2, len(sound), 128), np.float32)
    found, states = [], []
    for chunk in chunks(sound):
        probability, state = run(None, {"input": chunk, "state": state, **rate})
        found.append(probability[:, 0])
        states.append(state)
    return np.stack(found, 1), np.stack(states)


@pytest.fixture(scope="module", params=FILES, ids=lambda f: "-".join((f.name, *f.sizes)))
def converted(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[File, Path]:
    path = tmp_path_factory.mktemp("silero") / "vad.lrnn"
    request.param.convert(path)
    return request.param, path


def test_a_stream_gives_onnxruntime_s_probabilities(converted: tuple[File, Path]) -> None:
    file, path = converted
    stream = lightrnn.load(path).stream()
    for seed in range(2):
        sound = audio(1, seed)
        wanted, _ = reference(file, sound)
        assert np.ptp(wanted) > 0.3
        found = [stream.step({"input": chunk})["output"][:, 0] for chunk in chunks(sound)]
        np.testing.assert_allclose(np.stack(found, 1), wanted, rtol=0, atol=1e-5)
        stream.reset()


def test_states_carried_by_hand_agree(converted: tuple[File, Path]) -> None:
    file, path = converted
    model = lightrnn.load(path)
    sound = audio(1, 3)
    _, wanted = reference(file, sound)
    state = np.zeros((2, 1, 128), np.float32)
    for chunk, expected in zip(chunks(sound), wanted, strict=True):
        state = model.run({"input": chunk, "state": state})["stateN"]
        np.testing.assert_allclose(state, expected, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.native
def test_a_step_is_one_native_call(converted: tuple[File, Path]) -> None:
    plan = lightrnn.load(converted[1]).plan({"input": (1, CONTEXT + CHUNK), "state": (2, 1, 128)})
    assert (plan.host_steps, plan.native_calls) == ((), 1)


def test_the_command_line_converts_and_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = FILES[0].path, str(tmp_path / "vad.lrnn")
    options = ["--bind", "sr=16000", "--state", "state=stateN"]
    assert main(["convert", source, "-o", target, *options]) == 0
    assert capsys.readouterr().err == ""
    assert main(["verify", target, source]) == 0
    assert main(["inspect", target, "--plan", "input=1x576", "state=2x1x128"]) == 0
    shown = capsys.readouterr().out
    assert "DIFFERS" not in shown
    assert "host steps: 0," in shown
    assert "state is stateN of the step before" in shown
    assert 'bound_inputs: {"main": {"sr": 16000}}' in shown


def test_a_rate_that_is_not_bound_chooses_at_every_step(tmp_path: Path) -> None:
    source = FILES[0].path
    convert_onnx(source, tmp_path / "vad.lrnn", verify=False)
    model, run = lightrnn.load(tmp_path / "vad.lrnn"), session(source).run
    sound, state = audio(1, 6), np.zeros((2, 1, 128), np.float32)
    for rate, chunk in zip([16000, 8000] * 20, chunks(sound), strict=False):
        heard = chunk[:, :: RATE // rate]
        feeds = {"input": heard, "state": state, "sr": np.array(rate)}
        wanted = run(None, feeds)
        found = model.run(feeds)
        np.testing.assert_allclose(found["output"], wanted[0], rtol=0, atol=1e-5)
        state = found["stateN"]


@pytest.mark.parametrize("name", ["silero_vad_16k_op15", "silero_vad_op18_ifless"])
def test_several_streams_in_one_batch(name: str, tmp_path: Path) -> None:
    file = next(f for f in FILES if f.name == name)
    file.convert(tmp_path / "vad.lrnn")
    stream = lightrnn.load(tmp_path / "vad.lrnn").stream()
    sound = audio(3, 4)
    wanted, _ = reference(file, sound)
    found = [stream.step({"input": chunk})["output"][:, 0] for chunk in chunks(sound)]
    np.testing.assert_allclose(np.stack(found, 1), wanted, rtol=0, atol=1e-5)


def test_the_sequence_model_in_blocks(tmp_path: Path) -> None:
    path = str(RELEASE.folder() / "silero_vad/data/silero_vad_16k_sequence.onnx")
    convert_onnx(path, tmp_path / "vad.lrnn", states={"h": "hn", "c": "cn"})
    sound = audio(1, 5)
    frames = np.concatenate(list(chunks(sound)))
    zeros = np.zeros((1, 1, 128), np.float32)
    wanted = session(path).run(["speech_probs"], {"input": frames, "h": zeros, "c": zeros})[0]
    stream = lightrnn.load(tmp_path / "vad.lrnn").stream()
    for cuts in ([CHUNKS], [1] * CHUNKS, [7, 1, 40, CHUNKS - 48]):
        ends = np.cumsum(cuts)
        blocks = [frames[end - size : end] for end, size in zip(ends, cuts, strict=True)]
        found = np.concatenate([stream.step({"input": b})["speech_probs"] for b in blocks])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
        stream.reset()
