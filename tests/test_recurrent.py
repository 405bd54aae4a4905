"""RNN, GRU and LSTM: every attribute and optional input, against float64 oracles and onnxruntime.

The tolerance: the operator's `rtol` times the largest element of the layer's outputs, plus twice
what an output moves by when every input moves by a float32's last place. The second part counts
where a small clip or unbounded activations leave outputs that are small against their terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lightrnn.graph import Array
from lightrnn.ops import Case
from tests.kernels import BACKENDS, run_lowered
from tests.onnx_oracles import onnxruntime_says
from tests.recurrent_cases import TINY, Layer, draw, largest
from tests.teams import run_on
from tests.test_engine import executor, prepared

LAYERS, BLOCK = 3000, 150
blocks = pytest.mark.parametrize("first", range(0, LAYERS, BLOCK))
Check = Callable[[Layer], None]


def _check_all(layers: Sequence[Layer], *checks: Check) -> None:
    """Run checks on every layer; all failures in one message, by seed and attributes."""
    failures = []
    for layer in layers:
        for check in checks:
            try:
                check(layer)
            except AssertionError as error:
                failures.append(f"{check.__name__}: {layer}\n    {error}")
    assert not failures, f"{len(failures)} failures\n" + "\n".join(failures[:5])


def assert_close(layer: Layer, found: dict[str, Array], factor: float = 1.0) -> None:
    """Outputs agree with the oracle's, by the tolerance at the top."""
    scale = largest(layer.expected.values())
    for name, array in found.items():
        expected = layer.expected[name]
        assert array.shape == expected.shape, f"{name}: {array.shape}, not {expected.shape}"
        assert array.dtype == layer.inputs["X"].dtype, name
        allowed = factor * (layer.operator.rtol * scale + 2 * layer.noise[name])
        error = np.abs(array - expected).max(initial=0)
        assert error <= allowed, f"{name}: off by {error:.3g}, allowed {allowed:.3g}"


def semantics(layer: Layer) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return dict(zip(layer.expected, layer.operator.evaluate(*layer.values), strict=True))


def numpy_semantics(layer: Layer) -> None:
    assert_close(layer, semantics(layer))


def float64_semantics(layer: Layer) -> None:
    scale = largest(layer.expected.values())
    for name, array in semantics(layer.cast(np.float64)).items():
        np.testing.assert_allclose(array, layer.expected[name], rtol=0, atol=1e-12 * scale)


def onnxruntime(layer: Layer) -> None:
    """onnxruntime leaves rows without a step at zero; here they keep their initial state."""
    full = layer.with_all_parameters()
    if not _onnxruntime_can(full):
        return
    outputs = [a.astype(np.float32) for a in full.expected.values()]
    found = onnxruntime_says(full.op, Case("", full.values, full.attrs), outputs)
    named = dict(zip(full.expected, found, strict=True))
    lengths = full.inputs.get("sequence_lens")
    if lengths is not None:
        for name in ("Y_h", "Y_c"):
            if name in named:
                assert not named[name][:, lengths == 0].any()
                named[name][:, lengths == 0] = full.expected[name][:, lengths == 0]
    assert_close(full, named, 2.0)


def _onnxruntime_can(layer: Layer) -> bool:
    """Whether onnxruntime computes the layer, and by ONNX's text.

    It aborts the process for an empty batch and ignores initial states where there are no steps.
    Its ThresholdedRelu gives 0 for x = alpha, where clipped gates often are; its Softplus
    overflows above 88.
    """
    names = layer.attrs.get("activations", ())
    alphas = layer.attrs.get("activation_alpha", ())
    at_threshold = "ThresholdedRelu" in names and layer.attrs.get("clip") in alphas
    overflows = "Softplus" in names and largest(layer.expected.values()) > 40
    has_steps = layer.inputs["X"].size > 0
    known = not layer.attrs.get("layout") and "projection" not in layer.inputs
    return has_steps and known and not at_threshold and not overflows


def native_engine(layer: Layer) -> None:
    ready = prepared(layer.graph)
    plan = ready.plan(tuple(a.shape for a in layer.feeds))
    first = executor(1).run(plan, layer.feeds)
    assert_close(layer, dict(zip(layer.wanted, first, strict=True)))
    if plan.host_steps:
        assert "W" in layer.fed, "a host step although all weights are known"
        return
    for threads in (1, 2, 3):
        again = run_on(threads, plan, layer.feeds)
        for name, a, b in zip(layer.wanted, first, again, strict=True):
            assert a.tobytes() == b.tobytes(), f"{name} differs on {threads} threads"


@blocks
def test_numpy_semantics_agree_with_the_oracle_and_onnxruntime(first: int) -> None:
    layers = [draw(seed) for seed in range(first, first + BLOCK)]
    _check_all(layers, numpy_semantics, float64_semantics, onnxruntime)


@pytest.mark.native
@blocks
def test_the_engine_agrees_with_the_oracle_on_any_number_of_threads(first: int) -> None:
    _check_all([draw(seed) for seed in range(first, first + BLOCK)], native_engine)


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
def test_kernels_stay_inside_their_memory(backend: str) -> None:
    """Interpreted over checked spans; compiled on arrays that end at an unreadable page."""

    def kernel(layer: Layer) -> None:
        names = layer.operator.inputs.names[: len(layer.values)]
        constants = [k for k, name in enumerate(names) if name not in layer.fed]
        with np.errstate(all="ignore"):
            found = run_lowered(layer.operator, layer.values, backend, constants=constants)
        assert (found is None) == ("W" in layer.fed)
        if found is not None:
            results = [a for a in found if a is not None]
            assert_close(layer, dict(zip(layer.expected, results, strict=True)))

    count = 60 if backend == "interpreted" else 300
    _check_all([draw(seed, TINY) for seed in range(count)], kernel)
