"""Recurrent layers one upon the other on a GPU: side by side in one launch, where they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

import lightrnn
from lightrnn.cuda.grid import Gpu
from lightrnn.cuda.launch import side_by_side
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.errors import DataError
from lightrnn.format import ModelFile, dumps
from lightrnn.native import abi
from tests.host_device import HostDevice, SimulatedDevice, in_place
from tests.test_stack import Stacked, drawn

pytestmark = pytest.mark.native

CHIPS = (Gpu(multiprocessors=132, shared_per_block=227 * 1024),
         Gpu(multiprocessors=108, shared_per_block=163 * 1024))  # fmt: skip


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostDevice]:
    yield from in_place(SimulatedDevice(), monkeypatch)


def stack(
    op: str, hidden: Sequence[int], time: int, batch: int, *, given: bool = False, after: int = 1
) -> Stacked:
    """given: with lengths and initial states. after: a GRU's linear_before_reset."""
    made = Stacked(len(op) + time, time, batch).begin(False)
    if given:
        made.inputs["lengths"] = np.arange(batch, dtype=np.int32)[::-1] + max(time - batch, 0)
    for k, size in enumerate(hidden):
        names = [f"h_in{k}", f"c_in{k}"][: (2 if op == "LSTM" else 1) * given]
        for name in names:
            made.inputs[name] = drawn(made.rng, 1, batch, size)
        attrs = {"linear_before_reset": after} if op == "GRU" else {}
        made.layer(op, size, lengths="lengths" if given else "", states=names, attrs=attrs)
    return made


def load(made: Stacked) -> lightrnn.Model:
    return lightrnn.load(dumps(ModelFile({"main": made.graph()})), device="cuda")


def check(made: Stacked) -> None:
    """Three runs of the model on the GPU against NumPy semantics."""
    model, wanted = load(made), evaluate(made.graph(), made.inputs)
    for _ in range(3):
        found = model.run(made.inputs)
        for name, expected in wanted.items():
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_layers_in_one_launch_agree_with_semantics(
    op: str, batch: int, given: bool, gpu: HostDevice
) -> None:
    check(stack(op, (4, 4), 14, batch, given=given))
    assert gpu.counts["side_by_side"] > 0


def test_layers_that_do_not_fit_together_are_launched_one_by_one(gpu: HostDevice) -> None:
    check(stack("LSTM", (4, 4, 4), 30, 1))
    assert plan(stack("LSTM", (4, 4, 4), 30, 1)).branches == 3
    assert gpu.counts["lstm"] > gpu.counts["side_by_side"]


def test_a_bad_length_names_its_layer(gpu: HostDevice) -> None:
    made = stack("GRU", (4, 4), 14, 2, given=True)
    model = load(made)
    for _ in range(3):
        with pytest.raises(DataError, match=r"GRU node 'layer [01]'"):
            model.run({**made.inputs, "lengths": np.array([3, 15], np.int32)})
        model.run(made.inputs)


def plan(made: Stacked) -> Plan:
    graph = made.graph()
    shapes = tuple(a.shape for a in made.inputs.values())
    return prepare(graph, tuple(graph.outputs), PackedStore("cuda")).plan(shapes)


@pytest.mark.parametrize(
    ("op", "hidden", "time", "batch", "most"),
    [
        ("LSTM", (64, 64), 64, 1, 2), ("GRU", (64,) * 4, 64, 8, 4), ("RNN", (8,) * 9, 64, 1, 8),
        ("LSTM", (512,) * 4, 64, 1, 3), ("LSTM", (1024, 1024), 64, 1, 0),
        ("LSTM", (64, 64), 6, 1, 0), ("LSTM", (64, 64), 64, 9, 0), ("LSTM", (64, 65), 64, 1, 0),
    ],
)  # fmt: skip
def test_which_layers_run_side_by_side(
    op: str, hidden: Sequence[int], time: int, batch: int, most: int
) -> None:
    assert plan(stack(op, hidden, time, batch)).branches == most


def test_a_reset_before_the_product_keeps_layers_apart() -> None:
    assert plan(stack("GRU", (16, 16), 64, 1, after=0)).branches == 0


@pytest.mark.parametrize("chip", CHIPS, ids=("H100", "A100"))
@pytest.mark.parametrize(("hidden", "layers"), [(64, 8), (256, 4), (512, 2), (512, 3)])
def test_common_stacks_fit_a_chip(hidden: int, layers: int, chip: Gpu) -> None:
    names = [p.name for p in abi.KERNELS["lstm"].parameters]
    for batch in (1, 8):
        given = {"hidden": hidden, "batch": batch, "directions": 1, "steps": 50}
        words = [[{**given, "steps": 40 + k}.get(n, 0) for n in names] for k in range(layers)]
        found = side_by_side("lstm", words, 256, 512, chip)
        assert found is not None
        assert found.grid <= chip.multiprocessors
        assert found.grid % layers == 0
        assert found.cooperative
        assert found.shared <= chip.shared_per_block
        assert found.extra[-1] == 39 + layers
        assert found.words == (0, 256, layers, 512)


def test_what_one_launch_does_not_do() -> None:
    names = [p.name for p in abi.KERNELS["lstm"].parameters]
    given = {"hidden": 64, "batch": 1, "directions": 1, "steps": 50}

    def launched(kernel: str = "lstm", **changed: int) -> bool:
        rows = [[{**given, **more}.get(n, 0) for n in names] for more in ({}, changed)]
        return side_by_side(kernel, rows, 256, 512, CHIPS[0]) is not None

    assert launched()
    assert not launched(hidden=32)
    assert not launched(batch=2)
    assert not launched(steps=0)
    assert not launched(projection=1024)
    assert not launched("gemm")
