"""Recurrent layers at their edges: chunks, thread splits, NaN, denormals, odd memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import LightRNNError
from lightrnn.format import ModelFile, write
from lightrnn.graph import Array, Attr
from lightrnn.kernels import sharing
from lightrnn.ops import recurrent_lowering
from tests.recurrent_cases import GATES, Layer
from tests.teams import run_on
from tests.test_engine import prepared
from tests.test_recurrent import assert_close

native = pytest.mark.native


def layer(
    op: str,
    time: int,
    batch: int,
    hidden: int,
    *,
    size: int = 3,
    lengths: bool = False,
    states: bool = True,
    **attrs: Attr,
) -> Layer:
    """A layer with bias and, if asked, initial states and lengths."""
    rng = np.random.default_rng([time, batch, hidden])
    d = 2 if attrs.get("direction") == "bidirectional" else 1
    rows, first = GATES[op] * hidden, (batch, d) if attrs.get("layout") else (d, batch)

    def uniform(*shape: int) -> Array:
        bound = max(shape[-1], 1) ** -0.5
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    x = rng.standard_normal((time, batch, size)).astype(np.float32)
    inputs = {
        "X": np.ascontiguousarray(x.swapaxes(0, 1)) if attrs.get("layout") else x,
        "W": uniform(d, rows, size),
        "R": uniform(d, rows, hidden),
        "B": uniform(d, 2 * rows),
    }
    if lengths:
        inputs["sequence_lens"] = rng.integers(0, time + 1, batch).astype(np.int32)
    if states:
        inputs["initial_h"] = uniform(*first, hidden)
        if op == "LSTM":
            inputs["initial_c"] = uniform(*first, hidden)
    wanted = ("Y", "Y_h", "Y_c") if op == "LSTM" else ("Y", "Y_h")
    return Layer(0, op, inputs, {"hidden_size": hidden, **attrs}, wanted)


def natively(found: Layer, threads: int = 1) -> dict[str, Array]:
    plan = prepared(found.graph).plan(tuple(a.shape for a in found.feeds))
    return dict(zip(found.wanted, run_on(threads, plan, found.feeds), strict=True))


def by_numpy(found: Layer) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return dict(zip(found.wanted, found.operator.evaluate(*found.values), strict=True))


both = pytest.mark.parametrize(
    "run", [pytest.param(by_numpy, id="numpy"), pytest.param(natively, id="native", marks=native)]
)
every = pytest.mark.parametrize("op", GATES)


def same_bits(a: dict[str, Array], b: dict[str, Array]) -> None:
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert array.tobytes() == b[name].tobytes(), name


@native
@every
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("lengths", [False, True])
def test_chunks_of_any_length_change_no_bit(
    op: str, direction: str, layout: int, lengths: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = layer(op, 23, 3, 17, lengths=lengths, direction=direction, layout=layout)
    whole = natively(found)
    assert_close(found, whole)
    monkeypatch.setattr(recurrent_lowering, "_CHUNK_BYTES", 1)
    for steps in (1, 2, 5, 22, 23):
        monkeypatch.setattr(recurrent_lowering, "_CHUNK_ROWS", steps * 3)
        plan = prepared(found.graph).plan(tuple(a.shape for a in found.feeds))
        cells = [i for i in plan.instructions if i.kernel == op.lower()]
        assert len(cells) == -(-23 // steps)
        for threads in (1, 2):
            again = run_on(threads, plan, found.feeds)
            same_bits(dict(zip(found.wanted, again, strict=True)), whole)


@native
@every
def test_long_sequences(op: str) -> None:
    """1000 steps, several chunks of the size that the engine chooses."""
    found = layer(op, 1000, 3, 64, lengths=True, direction="bidirectional")
    plan = prepared(found.graph).plan(tuple(a.shape for a in found.feeds))
    assert sum(i.kernel == op.lower() for i in plan.instructions) > 1
    assert_close(found, natively(found))


@native
@every
@pytest.mark.parametrize("layout", [0, 1])
def test_huge_batches(op: str, layout: int) -> None:
    found = layer(op, 2, 4001, 17, lengths=True, layout=layout)
    result = natively(found)
    assert_close(found, result)
    same_bits(natively(found, 3), result)


SPLITS = [
    ("RNN", 177, 1), ("RNN", 181, 1), ("RNN", 182, 4), ("RNN", 362, 5), ("RNN", 363, 6),
    ("GRU", 79, 2), ("GRU", 80, 3), ("GRU", 81, 2), ("GRU", 208, 4), ("GRU", 209, 6),
    ("LSTM", 47, 3), ("LSTM", 48, 6), ("LSTM", 49, 4), ("LSTM", 65, 2), ("LSTM", 176, 4),
    ("LSTM", 177, 4), ("LSTM", 256, 23), ("LSTM", 256, 24), ("LSTM", 256, 36), ("LSTM", 257, 1),
]  # fmt: skip
"""Layers on both sides of every limit in kernels/sharing.py: operator, hidden size, batch."""


def test_the_splits_are_all_met() -> None:
    for threads in (2, 3):
        modes = set()
        for op, hidden, batch in SPLITS:
            units = -(-hidden // 16)
            weights = GATES[op] * units * 16 * hidden
            modes.add(sharing.sharing(batch, units, weights, threads))
        assert modes == {sharing.ALONE, sharing.ROWS, sharing.UNITS}


@native
@pytest.mark.parametrize(("op", "hidden", "batch"), SPLITS)
def test_splits_among_threads_change_no_bit(op: str, hidden: int, batch: int) -> None:
    for direction in ("forward", "bidirectional"):
        found = layer(op, 3, batch, hidden, lengths=True, direction=direction)
        alone = natively(found)
        assert_close(found, alone)
        for threads in (2, 3, 4):
            same_bits(natively(found, threads), alone)


@native
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_projected_layers_wait_for_all_units(batch: int) -> None:
    found = layer("LSTM", 60, batch, 200)
    rng = np.random.default_rng(0)
    size = 64
    sizes = {"R": (1, 800, size), "projection": (1, size, 200), "initial_h": (1, batch, size)}
    drawn = {n: rng.uniform(-0.1, 0.1, s).astype(np.float32) for n, s in sizes.items()}
    found = replace(found, inputs={**found.inputs, **drawn})
    assert sharing.sharing(batch, 13, 4 * 208 * size, 3) == sharing.UNITS
    alone = natively(found)
    assert_close(found, alone)
    for threads in (2, 3, 4):
        same_bits(natively(found, threads), alone)


@both
@every
def test_nan_stays_in_its_row_and_after_its_time(
    op: str, run: Callable[[Layer], dict[str, Array]]
) -> None:
    found = layer(op, 6, 5, 17)
    clean = run(found)
    x = found.inputs["X"].copy()
    x[2, 3] = np.nan
    spoilt = run(replace(found, inputs={**found.inputs, "X": x}))
    others = [0, 1, 2, 4]
    for name in found.wanted:
        same_bits({name: spoilt[name][..., others, :]}, {name: clean[name][..., others, :]})
        assert np.isnan(spoilt[name][-1, ..., 3, :]).all()
    same_bits({"Y": spoilt["Y"][:2]}, {"Y": clean["Y"][:2]})


@both
@every
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("place", ["X", "initial_h", "W", "B"])
def test_what_is_not_finite_spreads_as_in_float64(
    op: str, place: str, value: float, run: Callable[[Layer], dict[str, Array]]
) -> None:
    """Which elements are NaN, and what the others are."""
    found = layer(op, 3, 2, 17)
    spoilt = found.inputs[place].copy()
    spoilt.reshape(-1)[5] = value
    found = replace(found, inputs={**found.inputs, place: spoilt})
    for name, array in run(found).items():
        expected = found.expected[name]
        np.testing.assert_array_equal(np.isnan(array), np.isnan(expected), err_msg=name)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(array, expected.astype(np.float32), rtol=1e-4, atol=1e-5)


@both
def test_denormals_are_kept(run: Callable[[Layer], dict[str, Array]]) -> None:
    found = layer("RNN", 2, 2, 4, size=4, states=False, activations=("Relu",))
    x = np.abs(found.inputs["X"]) * np.float32(1e-40)
    assert x.all()
    inputs = {"X": x, "W": np.eye(4, dtype=np.float32)[None], "R": np.zeros((1, 4, 4), np.float32)}
    np.testing.assert_array_equal(run(replace(found, inputs=inputs))["Y"][:, 0], x)


@both
@every
def test_a_layer_without_units_has_empty_outputs(
    op: str, run: Callable[[Layer], dict[str, Array]]
) -> None:
    for name, array in run(layer(op, 3, 2, 0)).items():
        assert array.shape == ((3, 1, 2, 0) if name == "Y" else (1, 2, 0))


@every
def test_double_precision_goes_through_the_engine(op: str) -> None:
    found = layer(op, 5, 3, 17, lengths=True).cast(np.float64)
    model = loaded(found)
    outputs = model.run({n: a for n, a in found.inputs.items() if n in found.fed})
    for name, array in outputs.items():
        assert array.dtype == np.float64
        np.testing.assert_allclose(array, found.expected[name], rtol=0, atol=1e-14)


def test_half_precision_is_computed_in_single() -> None:
    for op in GATES:
        found = layer(op, 7, 3, 17, lengths=True).cast(np.float16)
        exact = replace(found).expected
        for name, array in by_numpy(found).items():
            assert array.dtype == np.float16
            spacing = np.spacing(np.abs(exact[name]).astype(np.float16)).astype(np.float64)
            assert np.all(np.abs(array - exact[name]) <= 0.51 * spacing)


def loaded(found: Layer) -> lightrnn.Model:
    target = io.BytesIO()
    write(target, ModelFile({"main": found.graph}, None, {}, "tests", {}))
    return lightrnn.load(target.getvalue())


def _unaligned(a: Array) -> Array:
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    copy = raw.view(a.dtype).reshape(a.shape)
    copy[...] = a
    assert not copy.flags.aligned
    return copy


def _every_third(a: Array) -> Array:
    wide = np.full((*a.shape[:-1], 3 * a.shape[-1]), 7, a.dtype)
    wide[..., ::3] = a
    return wide[..., ::3]


def _backward(a: Array) -> Array:
    return np.ascontiguousarray(a[::-1])[::-1]


def _read_only(a: Array) -> Array:
    copy = a.copy()
    copy.setflags(write=False)
    return copy


@pytest.mark.parametrize(
    "form", [_unaligned, _every_third, _backward, np.asfortranarray, _read_only]
)
@every
def test_inputs_may_lie_in_memory_in_any_way(op: str, form: Callable[[Array], Array]) -> None:
    found = layer(op, 5, 3, 17, lengths=True)
    model = loaded(found)
    feeds: dict[str, Any] = {n: a for n, a in found.inputs.items() if n in found.fed}
    expected = model.run(feeds)
    assert_close(found, expected)
    odd = {name: form(a) for name, a in feeds.items()}
    for _ in range(2):
        same_bits(model.run(odd), expected)


def test_a_batch_may_be_one_row_shown_many_times() -> None:
    found = layer("LSTM", 5, 4, 17, states=False)
    x = np.broadcast_to(found.inputs["X"][:, :1], (5, 4, 3))
    y = loaded(found).run({"X": x})["Y"]
    for n in range(4):
        np.testing.assert_array_equal(y[:, :, n], y[:, :, 0])


def test_a_model_goes_on_after_an_error() -> None:
    found = layer("GRU", 5, 3, 17, lengths=True)
    model = loaded(found)
    feeds: dict[str, Any] = {n: a for n, a in found.inputs.items() if n in found.fed}
    expected = model.run(feeds)
    bad: list[dict[str, Any]] = [
        {**feeds, "sequence_lens": np.array([0, 6, 1], np.int32)},
        {**feeds, "X": feeds["X"][:, :2]},
        {**feeds, "X": feeds["X"].astype(np.float64)},
        {"X": feeds["X"]},
    ]
    for wrong in bad:
        with pytest.raises(LightRNNError):
            model.run(wrong)
        same_bits(model.run(feeds), expected)
