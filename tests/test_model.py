"""Loading and running: what callers may pass, what they get, what is refused."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import DataError, InputError, LightRNNError, UnsupportedError
from lightrnn.format import ModelFile, write
from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType
from tests.kernels import guarded


def tagger() -> Graph:
    """ids [N, T] to scores [T, N, 3]: lookup, GRU, product."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32) * np.float32(0.4)

    nodes = (
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}, "embedding"),
        Node("Transpose", ("rows",), ("x",), {"perm": (1, 0, 2)}, "turn"),
        Node("GRU", ("x", "w", "r", "b"), ("y", "last"), {"hidden_size": 6}, "gru"),
        Node("Squeeze", ("y", "one"), ("flat",), {}, "squeeze"),
        Node("MatMul", ("flat", "out"), ("scores",), {}, "linear"),
    )
    constants = {
        "table": weights(11, 5), "w": weights(1, 18, 5), "r": weights(1, 18, 6),
        "b": weights(1, 36), "one": np.array([1]), "out": weights(6, 3),
    }  # fmt: skip
    return Graph(
        {"ids": TensorType(INT64, ("N", "T"))},
        {
            "scores": TensorType(FLOAT32, ("T", "N", 3)),
            "last": TensorType(FLOAT32, (1, "N", 6)),
        },
        nodes,
        constants,
    )


def stepper() -> Graph:
    """A GRU whose state is an input and an output."""
    graph = tagger()
    node = Node("GRU", ("x", "w", "r", "b", "", "h"), ("y", "h_next"), {"hidden_size": 6}, "gru")
    return Graph(
        {"x": TensorType(FLOAT32, ("T", "N", 5)), "h": TensorType(FLOAT32, (1, "N", 6))},
        {
            "y": TensorType(FLOAT32, ("T", 1, "N", 6)),
            "h_next": TensorType(FLOAT32, (1, "N", 6)),
        },
        (node,),
        {name: graph.constants[name] for name in "wrb"},
        {"h": "h_next"},
    )


def file_of(**graphs: Graph) -> bytes:
    target = io.BytesIO()
    write(target, ModelFile(graphs, None, {"source": "a test"}, "tests", {}))
    return target.getvalue()


@pytest.fixture
def model() -> lightrnn.Model:
    return lightrnn.load(file_of(main=tagger(), step=stepper()))


IDS = np.array([[1, 2, 3, 4], [10, 0, 0, 7]])


def test_a_path_bytes_and_a_file_object_are_the_same_model(tmp_path: Path) -> None:
    data = file_of(main=tagger())
    path = tmp_path / "m.lrnn"
    path.write_bytes(data)
    results = [
        lightrnn.load(s).run({"ids": IDS}) for s in (path, str(path), data, io.BytesIO(data))
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result["scores"], results[0]["scores"])


def test_signature_is_told(model: lightrnn.Model) -> None:
    assert model.graphs == ("main", "step")
    assert [(s.name, s.dtype, s.shape) for s in model.inputs] == [("ids", INT64, ("N", "T"))]
    assert [s.name for s in model.outputs] == ["scores", "last"]
    assert model.metadata["source"] == "a test"


def test_outputs_may_be_chosen_and_graphs_named(model: lightrnn.Model) -> None:
    whole = model.run({"ids": IDS})
    assert list(whole) == ["scores", "last"]
    part = model.run({"ids": IDS}, outputs=["last"])
    assert list(part) == ["last"]
    np.testing.assert_array_equal(part["last"], whole["last"])
    x = np.ones((2, 1, 5), np.float32)
    step = model.run({"x": x, "h": np.zeros((1, 1, 6), np.float32)}, graph="step")
    assert step["y"].shape == (2, 1, 1, 6)
    called = model(IDS)
    assert isinstance(called, tuple)
    np.testing.assert_array_equal(called[0], whole["scores"])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "'ids' is missing"),
        ({"ids": IDS, "extra": IDS}, "'extra'"),
        ({"ids": IDS.astype(np.float32)}, "'ids' is float32, expected int64"),
        ({"ids": IDS.astype(np.int32)}, "'ids' is int32, expected int64"),
        ({"ids": [[1.0, 2.7]]}, "'ids' is float64, expected int64"),
        ({"ids": IDS.astype(">i8")}, "'ids' is >i8, expected int64"),
        ({"ids": IDS[0]}, "rank 2"),
        ({"ids": [["a"]]}, "'ids'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(
    model: lightrnn.Model, feeds: dict[str, Array], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.run(feeds)


def test_sizes_with_one_name_must_agree(model: lightrnn.Model) -> None:
    x, h = np.ones((2, 3, 5), np.float32), np.zeros((1, 2, 6), np.float32)
    with pytest.raises(InputError, match="different sizes for 'N': 3 and 2"):
        model.run({"x": x, "h": h}, graph="step")
    with pytest.raises(InputError, match="expected"):
        model.run({"x": x[:, :, :4], "h": np.zeros((1, 3, 6), np.float32)}, graph="step")


def test_unknown_outputs_graphs_devices_and_threads_are_refused(model: lightrnn.Model) -> None:
    with pytest.raises(InputError, match="no output nothing"):
        model.run({"ids": IDS}, outputs=["nothing"])
    with pytest.raises(InputError, match="no output"):
        model.run({"ids": IDS}, outputs=[])
    with pytest.raises(InputError, match="no graph 'other', the file has main, step"):
        model.run({"ids": IDS}, graph="other")
    with pytest.raises(UnsupportedError, match="tpu"):
        lightrnn.load(file_of(main=tagger()), device="tpu")
    with pytest.raises(InputError, match="threads"):
        lightrnn.load(file_of(main=tagger()), threads=0)


@pytest.mark.parametrize("bad", [11, -12, 2**40, -(2**63)])
def test_an_id_out_of_range_is_an_error_and_reads_nothing(model: lightrnn.Model, bad: int) -> None:
    ids = IDS.copy()
    ids[1, 2] = bad
    for _ in range(2):
        with pytest.raises(DataError, match="Gather node 'embedding'"):
            model.run({"ids": ids})
    assert np.isfinite(model.run({"ids": IDS})["scores"]).all()


def test_negative_ids_count_from_the_end(model: lightrnn.Model) -> None:
    a, b = model.run({"ids": IDS}), model.run({"ids": np.where(IDS == 10, -1, IDS)})
    np.testing.assert_array_equal(a["scores"], b["scores"])


def test_lists_strides_and_alignment_do_not_matter(model: lightrnn.Model) -> None:
    expected = model.run({"ids": IDS})["scores"]
    wide = np.zeros((4, 8), np.int64)
    wide[::2, ::2] = IDS
    odd = np.frombuffer(b"x" + IDS.tobytes(), np.uint8)[1:].view(np.int64).reshape(2, 4)
    assert not odd.flags.aligned
    for ids in (IDS.tolist(), np.asfortranarray(IDS), wide[::2, ::2], odd, guarded(IDS)):
        np.testing.assert_array_equal(model.run({"ids": ids})["scores"], expected)


def test_nan_goes_through(model: lightrnn.Model) -> None:
    x = np.ones((3, 2, 5), np.float32)
    x[1, 0, 0] = np.nan
    y = model.run({"x": x, "h": np.zeros((1, 2, 6), np.float32)}, graph="step")["y"]
    assert np.isnan(y[1:, :, 0]).all()
    assert np.isfinite(y[:, :, 1]).all()
    assert np.isfinite(y[0]).all()


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (0, 0)])
def test_empty_batches_and_sequences(model: lightrnn.Model, shape: tuple[int, int]) -> None:
    results = model.run({"ids": np.zeros(shape, np.int64)})
    assert results["scores"].shape == (shape[1], shape[0], 3)
    np.testing.assert_array_equal(results["last"], np.zeros((1, shape[0], 6)))


def test_a_stream_carries_its_states(model: lightrnn.Model) -> None:
    x = np.random.default_rng(1).standard_normal((9, 2, 5)).astype(np.float32)
    whole = model.run({"x": x, "h": np.zeros((1, 2, 6), np.float32)}, graph="step")["y"]
    stream = model.stream("step")
    for _ in range(2):
        pieces = [stream.step({"x": x[a:b]}) for a, b in ((0, 1), (1, 4), (4, 9))]
        assert [list(p) for p in pieces] == [["y"]] * 3
        np.testing.assert_allclose(np.concatenate([p["y"] for p in pieces]), whole, atol=1e-6)
        stream.reset()


@pytest.mark.native
def test_warm_up_binds_and_the_plan_is_native(model: lightrnn.Model) -> None:
    model.warm_up([{"ids": (2, 4)}])
    plan = model.plan({"ids": (2, 4)})
    assert plan.host_steps == ()
    assert plan.native_calls == 1
    assert "gru" in str(plan)
    with pytest.raises(InputError, match="no shape for input 'ids'"):
        model.plan({})


def test_without_a_library_numpy_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.lrnn"
    path.write_bytes(file_of(main=tagger()))
    np.save(tmp_path / "scores.npy", lightrnn.load(path)(IDS)[0])
    code = f"""
import logging, numpy as np, lightrnn
logging.basicConfig(format="%(message)s")
model = lightrnn.load({str(path)!r})
lightrnn.load({str(path)!r})
scores = model(np.array({IDS.tolist()}))[0]
np.testing.assert_allclose(scores, np.load({str(tmp_path / "scores.npy")!r}), atol=1e-6)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"LIGHTRNN_NATIVE": "0"}, capture_output=True, text=True,
        check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stderr.count("lightrnn build-kernels") == 1
    assert issubclass(InputError, LightRNNError)
