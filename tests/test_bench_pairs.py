"""What the benchmark measures, and that it compares before it does."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from bench import engines, pair, parts, recurrent, selection
from bench.cells import Layer, Step, to_json
from bench.subject import Subject, evaluated

STEP = Step("GRU", 8, "states")


def changed(change: Any, subject: Subject, threads: int, dtype: str) -> engines.Running:
    """onnxruntime, its outputs changed."""
    real = engines.onnxruntime(subject, threads, dtype)
    return engines.Running(real.run, lambda found: [change(a) for a in real.arrays(found)])


def failing(subject: Subject, threads: int, dtype: str) -> engines.Running:
    raise RuntimeError("no kernel\nat some place")


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (partial(changed, lambda a: a + 0.01), "outputs differ from lightrnn's by 0.01"),
        (partial(changed, lambda a: a * np.float32("nan")), "outputs differ"),
        (failing, "^RuntimeError: no kernel$"),
    ],
)
def test_what_cannot_be_compared_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, engine: engines.Make, reason: str
) -> None:
    monkeypatch.setitem(engines.ENGINES, "other", engine)
    with pytest.raises(engines.UnavailableError, match=reason):
        pair.measure(STEP, "other", 0.0)


@pytest.mark.parametrize("way", ["run", "states", "stream"])
@pytest.mark.parametrize("op", selection.OPS)
def test_a_step_gives_the_same_in_every_way(op: str, way: str) -> None:
    result = pair.measure(Step(op, 8, way), "onnxruntime", 0.0)
    assert result["max_difference"] < 1e-5
    assert result["runs"] >= pair.LEAST


def test_states_are_carried_from_run_to_run() -> None:
    subject = recurrent.step(STEP)
    for make in (engines.lightrnn, engines.onnxruntime):
        made = make(subject, 1, "float32")
        first, second = (made.arrays(made.run())[0] for _ in range(2))
        assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", selection.OPS)
def test_torch_computes_the_same_layer(op: str, directions: int) -> None:
    subject = recurrent.layer(Layer(op, 6, 3, 4, directions))
    ort = engines.onnxruntime(subject, 1, "float32")
    assert subject.module is not None
    (found,) = evaluated(subject.module(), subject.feeds, subject.layout)
    np.testing.assert_allclose(found, ort.arrays(ort.run())[0], atol=1e-6)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", selection.OPS)
def test_ncnn_computes_the_same_layer(op: str, directions: int) -> None:
    pytest.importorskip("ncnn")
    result = pair.measure(Layer(op, 6, 1, 4, directions), "ncnn", 0.0)
    assert result["engine_error"] < 1e-6


def test_error_of_the_weights_alone() -> None:
    cell = Layer("LSTM", 32, 1, 10, dtype="int8")
    result = pair.measure(cell, "onnxruntime", 0.0)
    assert 1e-5 < result["rounding_error"] <= 1.5 * result["lightrnn_error"]
    assert result["engine_error"] < 1e-6


@pytest.mark.parametrize("quick", [True, False])
def test_cells_are_within_bounds(quick: bool) -> None:
    cells = list(selection.layers(quick))
    assert all(c.multiplies <= selection.MOST for c in cells)
    assert all(c.steps > 1 for c in cells if c.threads > 1)
    assert len(set(cells)) == len(cells)


def test_one_core_is_not_asked_for_two_threads() -> None:
    for part in ("layers", "attention", "models"):
        for _, cells in parts.plan(part, False, (1,)):
            assert all(c.threads == 1 for c in cells)


def test_a_resumed_part_measures_what_is_left() -> None:
    cells = list(selection.layers(True, (1,)))
    done = [{**to_json(cells[0]), "engine": "torch", "ratio": 1.0},
            {**to_json(cells[1]), "engine": "openvino", "refused": "why"},
            {"cell": "New shape", "more_ms": 1.0}]  # fmt: skip
    assert parts.remaining("torch", cells, done) == cells[1:]
    assert parts.remaining("openvino", cells, done) == [cells[0], *cells[2:]]
