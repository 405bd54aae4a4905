"""The .lrnn file: what is written is read, by us and by others; nothing else is written."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from safetensors.torch import load as load_in_torch

import lightrnn
from lightrnn.errors import FormatError
from lightrnn.format import VERSION, ModelFile, dumps, read, write
from lightrnn.graph import (
    DTYPES,
    FLOAT32,
    OPSET,
    Array,
    Attr,
    Graph,
    Node,
    TensorType,
)
from lightrnn.record import replace
from tests.data import version_1

DATA = Path(__file__).parent / "data"


def holding(**constants: Array) -> ModelFile:
    """A file of one graph whose outputs are its constants."""
    outputs = {
        name: TensorType(a.dtype.newbyteorder("="), a.shape) for name, a in constants.items()
    }
    return ModelFile({"main": Graph({}, outputs, (), constants)})


def kept(file: bytes | Path, name: str = "a") -> Array:
    """A constant as the file gives it back."""
    return read(file).graphs["main"].constants[name]


def header(file: bytes) -> tuple[dict[str, Any], int]:
    """The JSON of a file's header, and where its data starts."""
    (length,) = struct.unpack("<Q", file[:8])
    return json.loads(file[8 : 8 + length]), 8 + length


# Round trips


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (2, 1, 3)])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_comes_back(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    array = (raw % 2 if dtype.kind == "b" else raw).view(dtype).reshape(shape)
    found = kept(dumps(holding(a=array)))
    assert found.dtype == dtype
    assert found.shape == shape
    assert found.tobytes() == array.tobytes()
    assert not found.flags.writeable


def test_layout_and_byte_order_do_not_matter() -> None:
    plain = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = dumps(holding(a=plain))
    for other in (np.asfortranarray(plain), plain.astype(">f4"), plain[::-1].copy()[::-1]):
        assert dumps(holding(a=other)) == expected


NAMES = (
    "ключ", "日本 語", "😀", 'quo"te', "quo'te", "back\\slash", "new\nline", "\r\t\0", "{x}", "%s",
    "a/b.c:0", "__class__", "lambda", "#", "'''", "\u2028", "\x85", "n" * 1000,
)  # fmt: skip


def test_names_may_be_any_unicode() -> None:
    kind = TensorType(FLOAT32, ("N",))
    made = {name: f"{name[:500]} made" for name in NAMES}
    graph = Graph(
        dict.fromkeys(NAMES, kind),
        dict.fromkeys(made.values(), kind),
        tuple(Node("Add", (n, f"{n[:500]} held"), (m,), {}, n) for n, m in made.items()),
        {f"{n[:500]} held": np.array([k], np.float32) for k, n in enumerate(NAMES)},
    )
    model = lightrnn.load(dumps(ModelFile(dict.fromkeys(NAMES, graph))))
    assert model.graphs == NAMES
    feeds = {name: np.zeros(2, np.float32) for name in NAMES}
    for _ in range(3):
        results = model.run(feeds, graph=NAMES[3])
        assert list(results) == list(made.values())
        assert [a.tolist() for a in results.values()] == [[k, k] for k in range(len(NAMES))]


def test_a_graph_comes_back_whole() -> None:
    attrs: dict[str, Attr] = {
        "alpha": 1.0,
        "count": -(2**63),
        "equation": "ij->ji",
        "numbers": (1, 2),
        "halves": (0.5, 1e-300),
        "words": ("a", ""),
        "nothing": (),
    }
    graph = Graph(
        {"x": TensorType(FLOAT32, ("N", None, 3)), "any": TensorType(DTYPES["int8"], None)},
        {"y": TensorType(FLOAT32, None), "x": TensorType(FLOAT32, ("N", None, 3))},
        (Node("Strange", ("x", "", "w"), ("", "y"), attrs, "layer/1"),),
        {"w": np.zeros(2, np.float32)},
        {"x": "y"},
    )
    model = ModelFile(
        {"b": graph, "a": graph}, {"task": "x", "labels": ["é", "b"]}, {"source": "üñí"}, "p"
    )
    found = read(dumps(model))
    assert list(found.graphs) == ["b", "a"]
    for name in ("a", "b"):
        back = found.graphs[name]
        assert (dict(back.inputs), list(back.inputs)) == (dict(graph.inputs), list(graph.inputs))
        assert (dict(back.outputs), list(back.outputs)) == (graph.outputs, list(graph.outputs))
        assert back.nodes == graph.nodes
        assert {k: type(v) for k, v in back.nodes[0].attrs.items()} == {
            k: type(v) for k, v in attrs.items()
        }
        assert back.states == graph.states
    assert found.text == model.text
    assert found.metadata == model.metadata
    assert found.producer == "p"


def test_graphs_share_constants() -> None:
    big = np.arange(10_000, dtype=np.float32)
    first = holding(a=big).graphs["main"]
    second = replace(first, constants={"a": big.copy()})
    one, two = dumps(ModelFile({"f": first})), dumps(ModelFile({"f": first, "g": second}))
    assert len(two) < len(one) + 1000
    graphs = read(two).graphs
    assert graphs["f"].constants["a"] is graphs["g"].constants["a"]
    other = replace(first, constants={"a": big + 1})
    with pytest.raises(FormatError, match="different constants named 'a'"):
        dumps(ModelFile({"f": first, "g": other}))


VALUES = np.array(
    [0.0, -0.0, 1, 1 / 3, -2.71828, 65504, 6e-8, 1e-45, 1.00390625, 1.01171875, np.inf, -np.inf],
    np.float32,
)


def test_float16_is_the_nearest() -> None:
    found = kept(dumps(replace(holding(a=VALUES), encodings={"a": "float16"})))
    assert found.dtype == np.float32
    expected = torch.from_numpy(VALUES).half().float().numpy()
    np.testing.assert_array_equal(found, expected)
    assert not found.flags.writeable


def test_bfloat16_is_the_nearest_even() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 100_000, np.uint32).view(np.float32)
    values = np.concatenate([VALUES, bits[np.abs(bits) < 3e38], [np.nan]]).astype(np.float32)
    found = kept(dumps(replace(holding(a=values), encodings={"a": "bfloat16"})))
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(found, expected)
    assert not found.flags.writeable


@pytest.mark.parametrize("encoding", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 1)])
def test_encodings_of_any_shape(encoding: str, shape: tuple[int, ...]) -> None:
    array = np.full(shape, 1.5, np.float32)
    file = dumps(replace(holding(a=array), encodings={"a": encoding}))
    found = kept(file)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, array, strict=True)
    assert read(file).encodings == {"a": encoding}
    assert header(file)[0]["a"]["dtype"] == {"float16": "F16", "bfloat16": "BF16"}[encoding]


# What cannot be read is not written


def with_node(**attrs: Any) -> ModelFile:
    node = Node("Identity", ("a",), ("y",), attrs)
    graph = holding(a=np.ones(1, np.float32)).graphs["main"]
    return ModelFile({"main": replace(graph, nodes=(node,))})


ONES = np.ones(1, np.float32)
UNWRITABLE: dict[str, tuple[ModelFile, str]] = {
    "complex numbers": (holding(a=np.ones(1, np.complex64)), "'a' has the dtype complex64"),
    "texts": (holding(a=np.array(["a"])), "'a' has the dtype <U1"),
    "too many axes": (holding(a=np.ones((1,) * 17, np.float32)), "rank 17|17, at most 16"),
    "a name too long": (holding(**{"n" * 1001: ONES}), "name"),
    "the name of the metadata": (holding(__metadata__=ONES), "can have the name '__metadata__'"),
    "half a character": (holding(**{"\ud800": ONES}), "half of a surrogate pair"),
    "an attribute that is no number": (with_node(alpha=float("nan")), "graphs cannot be written"),
    "an attribute without end": (with_node(alpha=float("-inf")), "graphs cannot be written"),
    "NumPy's numbers": (with_node(axis=np.int64(1)), "graphs cannot be written as JSON"),
    "a large attribute": (with_node(axis=2**63), "'axis' of node 0 .* not an int64"),
    "a tensor as attribute": (with_node(value=ONES), "graphs cannot be written as JSON"),
    "a dangling reference": (
        ModelFile({"main": Graph({}, {"y": TensorType(FLOAT32, None)}, (), {})}),
        "output 'y' is never made",
    ),
    "no graphs": (ModelFile({}), "0 graphs"),
    "float16 overflow": (
        replace(holding(a=np.array([1, -65520], np.float32)), encodings={"a": "float16"}),
        "'a' has values too large for float16",
    ),
    "bfloat16 overflow": (
        replace(holding(a=np.array([1, 3.4e38], np.float32)), encodings={"a": "bfloat16"}),
        "'a' has values too large for bfloat16",
    ),
    "an unknown encoding": (replace(holding(a=ONES), encodings={"a": "int4"}), "stored as 'int4'"),
    "an encoding of integers": (
        replace(holding(a=np.array([1])), encodings={"a": "float16"}),
        "'a' of int64 cannot be stored as 'float16'",
    ),
    "an encoding of nothing": (replace(holding(a=ONES), encodings={"b": "float16"}), "'b', which"),
    "a key of ours": (replace(holding(a=ONES), metadata={"version": "9"}), "'version' is not"),
    "metadata that is no string": (replace(holding(a=ONES), metadata={"x": 1}), "'x' is not"),
    "text that is no JSON": (replace(holding(a=ONES), text={"labels": {1, 2}}), "text cannot be"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_read_is_not_written(case: str, tmp_path: Path) -> None:
    model, message = UNWRITABLE[case]
    with pytest.raises(FormatError, match=message):
        write(tmp_path / "m.lrnn", model)
    assert list(tmp_path.iterdir()) == []


# Bytes


def test_equal_models_give_equal_bytes() -> None:
    def reordered(mapping: Any) -> Any:
        return dict(reversed(list(mapping.items())))

    model = version_1.model()
    other = ModelFile(
        {
            name: replace(
                graph,
                constants={n: a.copy() for n, a in reordered(graph.constants).items()},
                states=reordered(graph.states),
                nodes=tuple(replace(n, attrs=reordered(n.attrs)) for n in graph.nodes),
            )
            for name, graph in model.graphs.items()
        },
        reordered(model.text),
        reordered(model.metadata),
        model.producer,
        reordered(model.encodings),
    )
    assert dumps(other) == dumps(model) == dumps(read(dumps(model)))


def test_data_is_aligned() -> None:
    model = holding(
        a=np.zeros(3, np.int8),
        b=np.zeros(5, np.float64),
        c=np.zeros(3, np.float16),
        d=np.zeros(1, np.float32),
        e=np.zeros(1, np.bool_),
    )
    for k in range(70):  # whatever the length of the header
        entries, start = header(dumps(replace(model, metadata={"k": "x" * k})))
        assert start % 64 == 0
        del entries["__metadata__"]
        for name, entry in entries.items():
            assert entry["data_offsets"][0] % model.graphs["main"].constants[name].itemsize == 0


def test_the_metadata_says_what_the_file_is() -> None:
    entries, _ = header(dumps(version_1.model()))
    metadata = entries["__metadata__"]
    assert metadata["format"] == "lrnn"
    assert metadata["version"] == str(VERSION)
    assert metadata["opset"] == str(OPSET)
    assert metadata["licence"] == "Apache-2.0"
    assert json.loads(metadata["text"]) == version_1.TEXT
    assert [name for name, _ in json.loads(metadata["graphs"])] == ["main", "step"]


def test_safetensors_reads_our_files(tmp_path: Path) -> None:
    path = tmp_path / "m.lrnn"
    write(path, version_1.model())
    arrays = read(path).graphs["main"].constants
    found = load_in_torch(path.read_bytes())
    assert found.keys() == arrays.keys()
    for name, value in found.items():
        wide = value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
        np.testing.assert_array_equal(wide.numpy(), arrays[name], strict=True)
    with safetensors.safe_open(path, "numpy") as file:
        assert sorted(file.keys()) == sorted(arrays)
        assert file.metadata()["format"] == "lrnn"
        assert file.get_slice("w").get_shape() == [2, 16, 3]


def test_files_that_safetensors_writes_are_read(tmp_path: Path) -> None:
    """Its data is aligned to 8 bytes alone, its keys come in any order."""
    model = holding(a=np.arange(6.0).reshape(2, 3), b=np.array([True, False]), c=np.zeros(0))
    ours = dumps(model)
    metadata = header(ours)[0]["__metadata__"]
    for k in range(8):
        theirs = safetensors.numpy.save(
            dict(model.graphs["main"].constants), {**metadata, "k": "x" * k}
        )
        path = tmp_path / f"{k}.lrnn"
        path.write_bytes(theirs)
        for source in (theirs, path):
            for name, array in read(source).graphs["main"].constants.items():
                np.testing.assert_array_equal(
                    array, model.graphs["main"].constants[name], strict=True
                )
                assert array.flags.aligned
