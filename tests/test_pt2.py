"""Exported torch programs convert; files that could run code are refused, and run none."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import convert_pt2
from lightrnn_converters.pt2_archive import checked
from lightrnn_converters.torch_export import quiet
from torch import Tensor, nn

import lightrnn
from lightrnn.errors import ConversionError, LightRNNError
from tests.models import ALL, AdditiveAttention, Tagger
from tests.torch_conversion import assert_agrees, feeds, inputs, wanted

AUTO = torch.export.Dim.AUTO


class Model(nn.Module):
    """A convolution, a mask and a softmax: what torch.export keeps of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(5, 6, 3, padding=1)
        self.register_buffer("scale", torch.full((6,), 2.0))

    def forward(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        y = torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2) * self.scale
        outside = torch.arange(x.shape[1])[None, :] >= lengths[:, None]
        return {"y": y.masked_fill(outside[:, :, None], 0.0).softmax(2)}


def arguments(batch: int, steps: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(batch)
    return torch.randn(batch, steps, 5), torch.randint(1, steps + 1, (batch,))


def save(module: nn.Module, given: Any, path: Path, shapes: Any = None) -> None:
    if shapes is None:
        shapes = tuple(dict.fromkeys(range(a.dim()), AUTO) for a in given)
    with quiet():
        program = torch.export.export(module.eval(), given, dynamic_shapes=shapes)
        torch.export.save(program, path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as torch.export.save writes it."""
    path: Path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    torch.manual_seed(0)
    save(Model(), arguments(3, 6), path)
    return path


def test_program_converts_and_agrees_at_other_shapes(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.lrnn"
    convert_pt2(saved, target)
    model = lightrnn.load(target)
    assert [s.shape for s in model.inputs] == [("x_0", "x_1", 5), ("x_0",)]
    module = torch.export.load(saved).module()
    for batch, steps in ((2, 9), (5, 3)):
        given = arguments(batch, steps)
        assert_agrees(model.run(feeds(model, given)), wanted(module, given))


@pytest.mark.parametrize("name", ["lstm h0 c0", "gru batch_first", "rnn bidirectional", "tagger"])
def test_recurrent_program_converts_at_the_length_it_was_exported_with(
    name: str, tmp_path: Path
) -> None:
    example = next(e for e in ALL if e.name == name)
    source, target = tmp_path / "model.pt2", tmp_path / "model.lrnn"
    save(example.module(), inputs(example, 0), source)
    convert_pt2(source, target)
    model = lightrnn.load(target)
    torch.manual_seed(9)
    given = example.make_inputs(5 if name != "rnn bidirectional" else 2, example.sizes[0][1])
    assert_agrees(model.run(feeds(model, given)), wanted(example.module(), given))


def test_names_states_and_metadata(tmp_path: Path) -> None:
    source, target = tmp_path / "model.pt2", tmp_path / "model.lrnn"
    save(nn.GRU(5, 6), (torch.randn(4, 3, 5), torch.randn(1, 3, 6)), source)
    convert_pt2(
        source, target, input_names=["x", "h"], output_names=["y", "h_next"],
        states={"h": "h_next"}, metadata={"licence": "MIT"}, dtype="float16",
    )  # fmt: skip
    model = lightrnn.load(target)
    assert [s.name for s in (*model.inputs, *model.outputs)] == ["x", "h", "y", "h_next"]
    assert model.graph("main").states == {"h": "h_next"}
    assert model.metadata == {"licence": "MIT"}


# Files that could run code


class Malicious:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def rewritten(
    saved: Path,
    target: Path,
    documents: Mapping[str, Callable[[Any], Any]] | None = None,
    members: Mapping[str, bytes] | None = None,
) -> Path:
    """The saved file with some JSON documents changed, and members replaced or added."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(target, "w") as archive:
        added = dict(members or {})
        for name in source.namelist():
            own, data = name.partition("/")[2], source.read(name)
            if change := (documents or {}).get(own):
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
            archive.writestr(name, added.pop(own, data))
        for own, data in added.items():
            archive.writestr(f"{source.namelist()[0].partition('/')[0]}/{own}", data)
    return target


MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def _node(document: Any) -> Any:
    return document["graph_module"]["graph"]["nodes"][0]


def _spec(document: Any) -> Any:
    return document["graph_module"]["module_call_graph"][0]["signature"]


def _call(target: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        _node(document)["target"] = target

    return change


def _expression(text: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        values = document["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 3}}}

    return change


def _structure(kind: str, context: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        spec = {"type": kind, "context": context, "children_spec": []}
        _spec(document)["out_spec"] = json.dumps([1, spec])

    return change


def _pickled_weight(document: Any) -> None:
    next(iter(document["config"].values()))["use_pickle"] = True


def _payload(path_name: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        meta = {"dtype": 7, "sizes": [{"as_int": 1}], "requires_grad": False,
                "device": {"type": "cpu", "index": None}, "strides": [{"as_int": 1}],
                "storage_offset": {"as_int": 0}, "layout": 7}  # fmt: skip
        document["config"]["c"] = {
            "path_name": path_name, "is_param": False, "use_pickle": False, "tensor_meta": meta,
        }  # fmt: skip

    return change


def _huge(document: Any) -> None:
    meta = next(iter(document["config"].values()))["tensor_meta"]
    meta["sizes"] = [{"as_int": 2**40}]
    meta["strides"] = [{"as_int": 0}]


def _argument(document: Any) -> None:
    _node(document)["inputs"][0]["arg"] = {"as_custom_obj": {"name": "o", "class_fqn": "c"}}


CHANGES: dict[str, tuple[dict[str, Callable[[Any], Any]], str]] = {
    "pickled weight": ({WEIGHTS: _pickled_weight}, "a tensor that is pickled"),
    "script object": ({CONSTANTS: _payload("custom_obj_0")}, "the member 'custom_obj_0'"),
    "opaque object": ({CONSTANTS: _payload("opaque_obj_0")}, "the member 'opaque_obj_0'"),
    "path outside": ({WEIGHTS: _payload("../../weight_0")}, "the member '../../weight_0'"),
    "huge weight": ({WEIGHTS: _huge}, "more than its member holds"),
    "python function": ({MODEL: _call("os.system")}, "a call of 'os.system'"),
    "other library": ({MODEL: _call("torch.ops.mylib.run.default")}, "a call of"),
    "operator.call": ({MODEL: _call("_operator.call")}, "a call of '_operator.call'"),
    "attrgetter": ({MODEL: _call("_operator.attrgetter")}, "a call of"),
    "file reader": ({MODEL: _call("torch.ops.aten.from_file.default")}, "a call of"),
    "file writer": ({MODEL: _call("torch.ops.aten.save.default")}, "a call of"),
    "script operator": ({MODEL: _call("torch.ops.aten.warn.default")}, "a call of"),
    "call in an expression": (
        {MODEL: _expression("__import__('os').system('true')")}, "the expression",
    ),
    "attribute in an expression": ({MODEL: _expression("Symbol.__class__")}, "the expression"),
    "string in an expression": (
        {MODEL: _expression("Max('__import__(\"os\")', 1)")}, "the expression",
    ),
    "long computation": ({MODEL: _expression("9**9**9**9")}, "the expression"),
    "tower of powers": ({MODEL: _expression("(" * 40 + "9" + "**2)" * 40)}, "the expression"),
    "long power": ({MODEL: _expression("Pow(9, Pow(9, Pow(9, 9)))")}, "the expression"),
    "custom argument": ({MODEL: _argument}, "an argument of kind as_custom_obj"),
    "module to import": (
        {MODEL: _structure("collections.defaultdict", json.dumps({
            "default_factory_module": "antigravity", "default_factory_name": "x",
            "dict_context": []}))}, "of the structure",
    ),
    "class to look up": (
        {MODEL: _structure("builtins.dict", json.dumps(
            [{"__enum__": True, "fqn": "antigravity:x", "name": "y"}]))}, "of the structure",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_file_that_could_run_code_is_refused(name: str, saved: Path, tmp_path: Path) -> None:
    documents, message = CHANGES[name]
    bad, target = tmp_path / "bad.pt2", tmp_path / "bad.lrnn"
    rewritten(saved, bad, documents)
    with pytest.raises(ConversionError) as caught:
        convert_pt2(bad, target)
    assert message in str(caught.value)
    assert "--trust" in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("member", [
    "data/weights/weight_0", "data/sample_inputs/model.pt", "data/constants/custom_obj_0",
    "data/constants/opaque_obj_0", "data/weights/model.pt", "data/constants/model.pt",
])  # fmt: skip
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_pickle_in_a_file_never_runs(member: str, form: str, saved: Path, tmp_path: Path) -> None:
    created, bad = tmp_path / "created", tmp_path / "bad.pt2"
    content = io.BytesIO()
    dump = pickle.dump if form == "pickle" else torch.save
    dump({"w": Malicious(created)}, content)
    changes: dict[str, Callable[[Any], Any]] = {}
    if member == "data/weights/weight_0":
        changes = {WEIGHTS: _pickled_weight}
    elif "obj_0" in member:
        changes = {CONSTANTS: _payload(member.rpartition("/")[2])}
    rewritten(saved, bad, changes, {member: content.getvalue()})
    with pytest.raises(ConversionError):
        convert_pt2(bad, tmp_path / "bad.lrnn")
    assert not created.exists()


def test_trust_lets_torch_unpickle(saved: Path, tmp_path: Path) -> None:
    """The same file runs its code where it is trusted: the tests above can fail."""
    created, bad = tmp_path / "created", tmp_path / "bad.pt2"
    content = io.BytesIO()
    torch.save({"w": Malicious(created)}, content)
    rewritten(saved, bad, {WEIGHTS: _pickled_weight}, {"data/weights/weight_0": content.getvalue()})
    with pytest.raises(LightRNNError):
        convert_pt2(bad, tmp_path / "bad.lrnn", trust=True)
    assert created.exists()


def test_guards_in_a_file_never_run(saved: Path, tmp_path: Path) -> None:
    created = tmp_path / "created"
    bad = tmp_path / "bad.pt2"

    def change(document: Any) -> None:
        document["guards_code"] = [f"__import__('pathlib').Path({str(created)!r}).touch() is None"]

    rewritten(saved, bad, {MODEL: change})
    convert_pt2(bad, tmp_path / "bad.lrnn")
    assert not created.exists()


# Damaged files


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    for data in (b"", b"PK", b"\x80\x02}q\x00.", bytes(1000)):
        path.write_bytes(data)
        with pytest.raises(ConversionError, match=r"model\.pt2 is not a \.pt2 file"):
            convert_pt2(path, tmp_path / "model.lrnn")
    with pytest.raises(FileNotFoundError):
        convert_pt2(tmp_path / "missing.pt2", tmp_path / "model.lrnn")


def test_checkpoint_under_this_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.save(Tagger().state_dict(), path)
    with pytest.raises(ConversionError, match="is not one that is read"):
        convert_pt2(path, tmp_path / "model.lrnn")


def test_damaged_file_is_refused_or_read_whole(saved: Path, tmp_path: Path) -> None:
    data, path = saved.read_bytes(), tmp_path / "model.pt2"
    rng = np.random.default_rng(0)
    for length in rng.integers(1, len(data), 20):
        path.write_bytes(data[:length])
        with pytest.raises(ConversionError):
            checked(str(path))
    refused = 0
    for place in rng.integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            checked(str(path))
        except ConversionError:
            refused += 1
    assert refused > 30


def test_deeply_nested_document_is_refused(saved: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt2"
    rewritten(saved, bad, members={MODEL: b"[" * 100_000})
    with pytest.raises(ConversionError, match=r"model\.json"):
        convert_pt2(bad, tmp_path / "bad.lrnn")


def test_compressed_or_repeated_members_are_refused(saved: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt2"
    with zipfile.ZipFile(saved) as source:
        with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
        with pytest.raises(ConversionError, match="is compressed"):
            convert_pt2(bad, tmp_path / "bad.lrnn")
        first = source.namelist()[0]
        with zipfile.ZipFile(bad, "w") as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(first, source.read(first))
    with pytest.raises(ConversionError, match="is not one that is read"):
        convert_pt2(bad, tmp_path / "bad.lrnn")


def test_file_without_example_inputs_needs_them(tmp_path: Path) -> None:
    source, target = tmp_path / "model.pt2", tmp_path / "model.lrnn"
    given = (torch.randn(3, 6), torch.randn(3, 4, 6), torch.randn(3, 4, 7))
    program = torch.export.export(AdditiveAttention().eval(), given)
    program._example_inputs = None
    torch.export.save(program, source)
    with pytest.raises(ConversionError, match="holds no example inputs: pass example_inputs"):
        convert_pt2(source, target)
    convert_pt2(source, target, example_inputs=given)
    assert len(lightrnn.load(target).outputs) == 2
