"""`lightrnn convert`: sources by their suffix, options, advice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.cli import frontends
from tests.command import failure, inspected, lightrnn_command, lrnn_file, names, onnx_file, tanh
from tests.onnx_models import FLOAT, model, node

pytestmark = pytest.mark.usefixtures("declared_entry_points")

X = np.array([[1, 2, 3], [-0.5, 0.25, 4]], np.float32)


def test_convert_onnx(tmp_path: Path) -> None:
    target = tmp_path / "m.lrnn"
    found = lightrnn_command("convert", onnx_file(tmp_path), "-o", target)
    assert (found.status, found.out, found.err) == (0, b"", "")
    found_y = lightrnn.load(target)(X)
    np.testing.assert_allclose(found_y, tanh(X), rtol=0, atol=1e-6)


def test_convert_to_stdout_and_by_any_case_of_suffix(tmp_path: Path) -> None:
    source = onnx_file(tmp_path, "M.ONNX")
    found = lightrnn_command("convert", source, "-o", "-")
    np.testing.assert_allclose(lightrnn.load(found.out)(X), tanh(X), atol=1e-6)


def test_convert_pt2(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 2)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(layer, (torch.randn(4, 3),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "m.pt2")
    target = tmp_path / "m.lrnn"
    found = lightrnn_command("convert", tmp_path / "m.pt2", "-o", target)
    assert (found.status, found.out) == (0, b""), found.err
    with torch.no_grad():
        wanted = layer(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(lightrnn.load(target)(X), wanted, atol=1e-6)
    message = failure(2, "convert", tmp_path / "m.pt2", "-o", target, "--dim", "N=4")
    assert message == "--dim is not an option for .pt2 files"
    untrusted = tmp_path / "untrusted.pt2"
    untrusted.write_bytes(b"\x80\x04]\x94.")
    assert str(untrusted) in failure(1, "convert", untrusted, "-o", target)


def test_convert_options(tmp_path: Path) -> None:
    source, target = onnx_file(tmp_path), tmp_path / "m.lrnn"

    def convert(*options: object) -> Any:
        found = lightrnn_command("convert", source, "-o", target, *options)
        assert (found.status, found.out) == (0, b""), found.err
        return inspected(target)["graphs"]["main"]

    assert convert("--dim", "N=4")["inputs"] == [{"name": "x", "dtype": "float32", "shape": [4, 3]}]
    unfit = failure(1, "convert", source, "-o", target, "--state", "x=y", "--dim", "N=2")
    assert unfit == "state 'x' is float32[2, 3], and 'y', which is to feed it, is float32[2, 2]"
    bound = convert("--bind", "x=[[1, 2, 3]]")
    assert bound["inputs"] == []
    found = lightrnn.load(target)()
    np.testing.assert_allclose(found, tanh(X[:1]), atol=1e-6)
    assert convert()["weights"] == [{"name": "w", "stored": "float32", "shape": [3, 2]}]
    assert convert("--dtype", "int8", "--dtype", "w=float16")["weights"][0]["stored"] == "float16"
    convert("--dtype", "float16")
    np.testing.assert_allclose(lightrnn.load(target)(X), tanh(X), atol=2e-3)


def test_a_state_is_told_to_the_file(tmp_path: Path) -> None:
    types = {"x": (FLOAT, ("N", 3))}, {"y": (FLOAT, ("N", 3))}
    source, target = tmp_path / "step.onnx", tmp_path / "step.lrnn"
    source.write_bytes(model([node("Tanh", ["x"], ["y"])], *types).SerializeToString())
    found = lightrnn_command("convert", source, "-o", target, "--state", "x=y", "--dim", "N=2")
    assert (found.status, found.out) == (0, b""), found.err
    assert inspected(target)["graphs"]["main"]["states"] == {"x": "y"}


BAD_CONVERSIONS = {
    "no such input": (["--bind", "q=1"], 1, "no input 'q', the model has x"),
    "no such dimension": (["--dim", "Q=1"], 1, "no dimension 'Q', the model has N"),
    "no such state": (["--state", "q=y"], 1, "'q'"),
    "dtype": (["--dtype", "float8"], 1, "'float8'"),
    "no such weight": (["--dtype", "q*=int8"], 1, "no weight matches 'q*', there are w"),
    "two for all": (["--dtype", "int8", "--dtype", "int16"], 2, "--dtype * is given twice"),
    "twice": (["--dim", "N=1", "--dim", "N=2"], 2, "--dim N is given twice"),
}


@pytest.mark.parametrize("case", BAD_CONVERSIONS)
def test_conversions_that_fail_keep_what_was_there(case: str, tmp_path: Path) -> None:
    options, status, message = BAD_CONVERSIONS[case]
    source, target = onnx_file(tmp_path), tmp_path / "m.lrnn"
    target.write_bytes(b"before")
    assert message in failure(status, "convert", source, "-o", target, *options)
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["m.lrnn", "tanh.onnx"]


SOURCES = {
    "m.pt": "a torch checkpoint",
    "m.pth": "a torch checkpoint",
    "m.ts": "TorchScript",
    "m.torchscript": "TorchScript",
    "m.h5": "cannot convert .h5, expected .onnx or .pt2",
    "model": "cannot convert a file without a suffix",
    "m.onnx": "not an ONNX file",
    "m.pt2": "m.pt2",
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_that_cannot_be_converted(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(b"not what it says")
    message = failure(1, "convert", source, "-o", tmp_path / "out.lrnn")
    assert SOURCES[name] in message
    advised = source.suffix in (".pt", ".pth", ".ts", ".torchscript")
    assert ("convert_torch" in message) == advised
    assert names(tmp_path) == [name]


def test_sources_that_are_missing_or_the_output(tmp_path: Path) -> None:
    missing = tmp_path / "m.onnx"
    message = failure(1, "convert", missing, "-o", tmp_path / "m.lrnn")
    assert message == f"{missing}: No such file or directory"
    missing.mkdir()
    message = failure(1, "convert", missing, "-o", tmp_path / "m.lrnn")
    assert message == f"{missing}: Is a directory"
    source = onnx_file(tmp_path)
    before = source.read_bytes()
    assert "would replace" in failure(2, "convert", source, "-o", source)
    assert source.read_bytes() == before


def test_all_unsupported_nodes_in_one_line(tmp_path: Path) -> None:
    nodes = [
        node("Strange", ["x"], ["a"], name="first", domain="their.own"),
        node("Stranger", ["a"], ["y"], name="second", domain="their.own"),
    ]
    types = {"x": (FLOAT, [2])}
    proto = model(nodes, types, {"y": (FLOAT, [2])}, domains={"their.own": 1})
    source = tmp_path / "m.onnx"
    source.write_bytes(proto.SerializeToString())
    message = failure(1, "convert", source, "-o", tmp_path / "m.lrnn")
    assert "first" in message
    assert "second" in message


@pytest.mark.parametrize(("module", "extra"), [("onnx", "onnx"), ("torch", "torch")])
def test_missing_extras_are_named(
    module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = onnx_file(tmp_path, "m.onnx" if module == "onnx" else "m.pt2")
    monkeypatch.setitem(sys.modules, module, None)
    message = failure(1, "convert", source, "-o", tmp_path / "m.lrnn")
    assert message == f"{module} is not installed: pip install 'lightrnn[{extra}]'"


def test_missing_converters_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = onnx_file(tmp_path), lrnn_file(tmp_path)
    monkeypatch.setattr(frontends, "entry_points", lambda **_: ())
    message = failure(1, "convert", source, "-o", tmp_path / "m.lrnn")
    assert message.endswith("pip install 'lightrnn[onnx]'")
    assert failure(1, "verify", model, source).endswith("pip install 'lightrnn[verify]'")
