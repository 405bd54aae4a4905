"""inspect, verify, bench, doctor and build-kernels, and `run` on arrays."""

from __future__ import annotations

import importlib.util
import io
import json
import platform
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.cuda import device
from lightrnn.errors import DeviceError, NativeError
from lightrnn.native import abi, library
from tests.command import (
    LANGID,
    failure,
    inspected,
    lightrnn_command,
    lrnn_file,
    names,
    onnx_file,
    tanh,
)

pytestmark = pytest.mark.usefixtures("declared_entry_points")

X = np.array([[1, 2, 3], [-0.5, 0.25, 4]], np.float32)


def npz(folder: Path, arrays: Mapping[str, Any], name: str = "in.npz") -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


# run --npz


def test_arrays_in_arrays_out(tmp_path: Path) -> None:
    model, target = lrnn_file(tmp_path), tmp_path / "out.npz"
    found = lightrnn_command("run", model, "--npz", npz(tmp_path, {"x": X}), "-o", target)
    assert (found.status, found.out, found.err) == (0, b"", "")
    with np.load(target) as arrays:
        assert arrays.files == ["y"]
        np.testing.assert_allclose(arrays["y"], tanh(X), rtol=0, atol=1e-6)


def test_arrays_to_stdout(tmp_path: Path) -> None:
    found = lightrnn_command(
        "run", lrnn_file(tmp_path), "--npz", npz(tmp_path, {"x": X}), "-o", "-"
    )
    with np.load(io.BytesIO(found.out)) as arrays:
        np.testing.assert_allclose(arrays["y"], tanh(X), rtol=0, atol=1e-6)


def test_a_text_model_takes_arrays_too(tmp_path: Path) -> None:
    feeds = {"ids": np.array([[5, 6, 7]]), "lengths": np.array([3])}
    found = lightrnn_command("run", LANGID, "--npz", npz(tmp_path, feeds), "-o", "-")
    expected = lightrnn.load(LANGID).run(feeds)["logits"]
    with np.load(io.BytesIO(found.out)) as arrays:
        np.testing.assert_array_equal(arrays["logits"], expected)


BAD_ARRAYS: dict[str, tuple[Mapping[str, Any], str]] = {
    "no arrays": ({}, "input 'x' is missing"),
    "another name": ({"z": X}, "input 'x' is missing"),
    "one too many": ({"x": X, "z": X}, "no input 'z', the graph has x"),
    "float64": ({"x": X.astype(float)}, "input 'x' is float64, expected float32"),
    "strings": ({"x": np.array([["a"] * 3])}, "input 'x' is <U1, expected float32"),
    "records": ({"x": np.zeros((2, 3), [("a", "f4")])}, "expected float32"),
    "rank": ({"x": X[0]}, "input 'x' has shape (3,), expected rank 2"),
    "size": ({"x": X[:, :2]}, "input 'x' has shape (2, 2)"),
    "pickled": ({"x": np.array([{}], object)}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_do_not_fit(case: str, tmp_path: Path) -> None:
    arrays, message = BAD_ARRAYS[case]
    model, source = lrnn_file(tmp_path), npz(tmp_path, arrays)
    before = names(tmp_path)
    assert message in failure(1, "run", model, "--npz", source, "-o", tmp_path / "out.npz")
    assert message in failure(1, "bench", model, "--npz", source)
    assert names(tmp_path) == before


def zipped(data: bytes) -> bytes:
    """A zip file of one member, `x.npy`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", data)
    return buffer.getvalue()


def damaged() -> dict[str, bytes]:
    """Files that are no .npz files of arrays, though most start as one."""
    one, header = io.BytesIO(), io.BytesIO()
    np.save(one, X)
    kind = {"descr": "<f4", "fortran_order": False, "shape": (9**12,)}
    np.lib.format.write_array_header_1_0(header, kind)
    good = zipped(one.getvalue())
    entry = good.index(b"PK\x01\x02")
    return {
        "empty": b"",
        "text": b"hello\n",
        "pickle": b"\x80\x04]\x94.",
        "one array": one.getvalue(),
        "a zip of text": zipped(b"hello"),
        "larger than memory": zipped(header.getvalue()),
        "cut off": good[:-30],
        "changed": good.replace(X.tobytes(), X.tobytes()[::-1]),
        "encrypted": good[: entry + 8] + b"\x01" + good[entry + 9 :],
        "compressed otherwise": good[: entry + 10] + b"\x63" + good[entry + 11 :],
    }


@pytest.mark.parametrize("case", damaged())
def test_what_is_not_an_npz_file(case: str, tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    path.write_bytes(damaged()[case])
    message = failure(1, "run", lrnn_file(tmp_path), "--npz", path, "-o", "-")
    assert message.startswith(f"{path}: ")


def test_an_npz_file_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    message = failure(1, "run", lrnn_file(tmp_path), "--npz", path, "-o", "-")
    assert message == f"{path}: No such file or directory"


# inspect


def test_inspect_tells_what_a_file_holds(tmp_path: Path) -> None:
    found = lightrnn_command("inspect", LANGID)
    assert found.status == 0
    text = found.out.decode()
    for part in ("graph main", "input       ids: int64", "output      logits: float32", "1 GRU",
                 "parameters  176,734", "30 labels: ar, bg", "CC BY-SA 4.0"):  # fmt: skip
        assert part in text
    facts = inspected(LANGID)
    assert facts["graphs"]["main"]["nodes"]["GRU"] == 1
    assert facts["graphs"]["main"]["parameters"] == 176734
    assert facts["text"]["labels"][:2] == ["ar", "bg"]
    assert facts["metadata"]["data"] == "wordfreq, CC BY-SA 4.0"
    assert "plan" not in facts
    plain = inspected(lrnn_file(tmp_path))
    assert plain["text"] is None
    assert plain["graphs"]["main"]["parameters"] == 6


def test_inspect_tells_what_would_run(tmp_path: Path) -> None:
    found = lightrnn_command("inspect", LANGID, "--plan", "ids=4x16", "lengths=4")
    assert found.status == 0
    plan = lightrnn.load(LANGID).plan({"ids": (4, 16), "lengths": (4,)})
    kernels = [i.kernel for i in plan.instructions]
    *_, head, counts = found.out.decode().partition(f"  {kernels[0]} ")[0].rstrip().split("\n")
    assert head == "plan for ids=4x16 lengths=4"
    assert counts == (
        f"  instructions: {len(kernels)}, native calls: 1, host steps: 0, "
        f"arena: {plan.arena_bytes:,} bytes, packed weights: {plan.packed_bytes:,} bytes"
    )
    listed = [line.split()[0] for line in found.lines[-len(kernels) :]]
    assert listed == kernels
    apart = lightrnn_command("inspect", LANGID, "--plan", "ids=4,16", "--plan", "lengths=4")
    assert apart.out == found.out
    facts = json.loads(
        lightrnn_command("inspect", LANGID, "--json", "--plan", "ids=4x16", "lengths=4").out
    )["plan"]
    assert facts["shapes"] == {"ids": [4, 16], "lengths": [4]}
    assert [i["kernel"] for i in facts["instructions"]] == kernels
    assert (facts["native_calls"], facts["host_steps"]) == (1, [])
    assert (facts["arena_bytes"], facts["packed_bytes"]) == (plan.arena_bytes, plan.packed_bytes)


def test_inspect_names_host_steps(tmp_path: Path) -> None:
    from lightrnn_converters import convert_onnx

    from tests.onnx_models import FLOAT, INT64, model, node

    proto = model(
        [node("NonZero", ["x"], ["n"], name="where"), node("Shape", ["n"], ["y"], name="how-many")],
        {"x": (FLOAT, ["N"])},
        {"y": (INT64, [2])},
    )
    path = tmp_path / "m.lrnn"
    convert_onnx(proto, path)
    found = lightrnn_command("inspect", path, "--plan", "x=5")
    assert "host steps: 1," in found.out.decode()
    assert re.search(r"^  host +NonZero node 'where'", found.out.decode(), re.M)
    facts = lightrnn_command("inspect", path, "--json", "--plan", "x=5").out
    assert ["where" in step for step in json.loads(facts)["plan"]["host_steps"]] == [True]


def test_inspect_plans_the_graph_that_has_these_inputs(tmp_path: Path) -> None:
    from lightrnn.format import ModelFile, dumps, read

    (first,) = read(lrnn_file(tmp_path)).graphs.values()
    (second,) = read(LANGID).graphs.values()
    path = tmp_path / "two.lrnn"
    path.write_bytes(dumps(ModelFile({"first": first, "second": second})))
    assert list(inspected(path)["graphs"]) == ["first", "second"]
    for shapes, kernel in ((["x=2x3"], "tanh"), (["ids=2x3", "lengths=2"], "gru")):
        text = lightrnn_command("inspect", path, "--plan", *shapes).out.decode()
        assert kernel in text.partition("plan for")[2].lower()
    message = failure(2, "inspect", path, "--plan", "z=1")
    assert "(first: x; second: ids, lengths)" in message


BAD_PLANS = {
    "an input left out": (["ids=4x16"], 2, "--plan needs a shape for each input"),
    "another name": (["x=4x16", "lengths=4"], 2, "(main: ids, lengths)"),
    "twice": (["ids=4x16", "lengths=4", "ids=4x16"], 2, "--plan ids is given twice"),
    "rank": (["ids=4", "lengths=4"], 1, "input 'ids' has shape (4,), expected rank 2"),
    "sizes": (["ids=4x16", "lengths=5"], 1, "5"),
    "no name": (["4x16"], 2, "'4x16' is not NAME=SHAPE"),
    "no size": (["ids=4x", "lengths=4"], 2, "'ids=4x' is not NAME=SHAPE"),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_plans_that_cannot_be(case: str) -> None:
    shapes, status, message = BAD_PLANS[case]
    assert message in failure(status, "inspect", LANGID, "--plan", *shapes)


def test_inspect_escapes_what_a_terminal_would_obey(tmp_path: Path) -> None:
    path = lrnn_file(tmp_path, metadata={"note": "red \x1b[31m\r ü"})
    found = lightrnn_command("inspect", path)
    assert "note: red \\x1b[31m\\r ü" in found.lines
    assert inspected(path)["metadata"]["note"] == "red \x1b[31m\r ü"


# verify


def test_verify(tmp_path: Path) -> None:
    model, source = lrnn_file(tmp_path), onnx_file(tmp_path)
    found = lightrnn_command("verify", model, source)
    assert (found.status, found.err) == (0, "")
    assert len(found.lines) > 1
    for line in found.lines:
        assert re.fullmatch(r"y +float32 +\d+x2 +max abs +\S+ +max rel +\S+ +ok", line)
    given = lightrnn_command("verify", model, source, "--npz", npz(tmp_path, {"x": X}))
    assert (given.status, len(given.lines)) == (0, 1)


def test_verify_tells_differences(tmp_path: Path) -> None:
    model, other = lrnn_file(tmp_path), onnx_file(tmp_path, "other.onnx", scale=0.5)
    found = lightrnn_command("verify", model, other)
    assert found.status == 1
    assert all("DIFFERS" in line for line in found.lines)
    assert found.err == f"lightrnn: error: {model} differs from {other}\n"


def test_verify_errors(tmp_path: Path) -> None:
    model, source = lrnn_file(tmp_path), onnx_file(tmp_path)
    missing = tmp_path / "missing.onnx"
    assert failure(1, "verify", model, missing) == f"{missing}: No such file or directory"
    assert "not an ONNX file" in failure(1, "verify", model, model)
    wrong = npz(tmp_path, {"x": X[:, :2]})
    assert "Got: 2 Expected: 3" in failure(1, "verify", model, source, "--npz", wrong)


# bench


def seconds(number: str, unit: str) -> float:
    return float(number) * {"µs": 1e-6, "ms": 1e-3}[unit]


def test_bench() -> None:
    found = lightrnn_command("bench", LANGID, "--runs", 25, "--threads", 1)
    assert (found.status, found.err) == (0, "")
    ids, lengths, head, times = found.lines
    assert ids.split() == ["input", "ids", "int64", "16x16"]
    assert lengths.split() == ["input", "lengths", "int64", "16"]
    assert head.split() == ["25", "runs,", "1", "threads", "median", "p90"]
    name, *durations = times.split()
    assert name == "lightrnn"
    assert 0 < seconds(*durations[:2]) <= seconds(*durations[2:])


def test_bench_against_onnxruntime(tmp_path: Path) -> None:
    model, source = lrnn_file(tmp_path), onnx_file(tmp_path)
    found = lightrnn_command("bench", model, "--against", source, "--shape", "x=5x3", "--runs", 3)
    assert (found.status, found.err) == (0, "")
    compared, given, _, ours, theirs, ratio = (line.split() for line in found.lines)
    assert compared[:3] == ["y", "float32", "5x2"]
    assert compared[-1] == "ok"
    assert given[-1] == "5x3"
    assert (ours[0], theirs[0], ratio[0]) == ("lightrnn", "onnxruntime", "ratio")
    expected = seconds(*ours[1:3]) / seconds(*theirs[1:3])
    assert float(ratio[1]) == pytest.approx(expected, rel=0.2, abs=0.02)
    given_arrays = npz(tmp_path, {"x": X})
    found = lightrnn_command("bench", model, "--against", source, "--npz", given_arrays)
    assert (found.status, found.lines[1].split()[-1]) == (0, "2x3")


def test_bench_tells_differences_and_times_all_the_same(tmp_path: Path) -> None:
    model, other = lrnn_file(tmp_path), onnx_file(tmp_path, "other.onnx", scale=0.5)
    found = lightrnn_command("bench", model, "--against", other, "--runs", 1)
    assert found.status == 1
    assert "DIFFERS" in found.lines[0]
    assert found.lines[-1].startswith("ratio")
    assert found.err == f"lightrnn: error: {model} differs from {other}\n"


def test_bench_errors(tmp_path: Path) -> None:
    model, source = lrnn_file(tmp_path), npz(tmp_path, {"x": X})
    assert "no input 'z', the model has x" in failure(2, "bench", model, "--shape", "z=3")
    both = ["--npz", source, "--shape", "x=2x3"]
    assert "do not go together" in failure(2, "bench", model, *both)
    assert "expected rank 2" in failure(1, "bench", model, "--shape", "x=2")
    assert "has shape (2, 4)" in failure(1, "bench", model, "--shape", "x=2x4")
    assert "not an ONNX file" in failure(1, "bench", model, "--against", model)


# doctor and build-kernels


LEVEL = "x86-64-v(3|4|4vnni|4bf16|4amx)"


def facts(*argv: object) -> dict[str, str]:
    found = lightrnn_command("doctor", *argv)
    assert found.status == 0
    return {line.split()[0]: line.partition(" ")[2].strip() for line in found.lines}


@pytest.mark.native
def test_doctor_with_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTRNN_THREADS", "3")
    found = facts()
    assert found["lightrnn"] == lightrnn.__version__
    assert found["numpy"] == np.__version__
    assert found["threads"] == "3"
    assert re.match(rf"{LEVEL}, from the packaged library /", found["kernels"])


def test_doctor_tells_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: Exception) -> Callable[[int], None]:
        def open_device(index: int) -> None:
            raise error

        return open_device

    gpu = SimpleNamespace(name="H100", image=SimpleNamespace(images=SimpleNamespace(path="a.zip")))
    monkeypatch.setattr(device, "open_device", lambda index: gpu)
    assert facts()["GPU"] == "H100, kernels from a.zip"
    monkeypatch.setattr(device, "open_device", failing(DeviceError("no NVIDIA driver")))
    assert facts()["GPU"] == "not used: no NVIDIA driver"
    monkeypatch.setattr(device, "open_device", failing(NativeError("a.zip: damaged")))
    found = lightrnn_command("doctor")
    assert found.status == 1
    assert "GPU       refused: a.zip: damaged" in found.lines


@pytest.fixture
def _fresh_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is looked for again, and what is found is forgotten afterwards."""
    monkeypatch.setattr(library, "load", library.load.__wrapped__)


@pytest.mark.usefixtures("_fresh_library")
def test_doctor_without_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTRNN_NATIVE", "0")
    assert facts()["kernels"] == "NumPy semantics, which are slow: LIGHTRNN_NATIVE is 0"
    monkeypatch.delenv("LIGHTRNN_NATIVE")
    monkeypatch.setattr(library, "PACKAGED", str(tmp_path / "none.so"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "NumPy semantics" in facts()["kernels"]
    assert facts()["kernels"].endswith("`lightrnn build-kernels` builds one")


@pytest.mark.usefixtures("_fresh_library")
def test_doctor_tells_of_a_library_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIGHTRNN_NATIVE", raising=False)
    monkeypatch.setattr(library, "PACKAGED", str(tmp_path / "none.so"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = Path(str(library.cached_path()))
    cached.parent.mkdir(mode=0o700)
    cached.write_bytes(b"not a library")
    found = lightrnn_command("doctor")
    assert found.status == 1
    assert re.search(r"^kernels   refused: .*lightrnn_kernels.so", found.out.decode(), re.M)


def test_doctor_tells_of_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTRNN_THREADS", "many")
    found = lightrnn_command("doctor")
    assert found.status == 1
    assert "threads   LIGHTRNN_THREADS is 'many', expected a positive number" in found.lines


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lightrnn"


@pytest.mark.native
def test_build_kernels(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightrnn.native import build

    monkeypatch.setattr(build, "build", lambda path: shutil.copy(library.PACKAGED, path))
    found = lightrnn_command("build-kernels")
    assert found.status == 0
    built = cache / "lightrnn_kernels.so"
    assert re.fullmatch(rf"{built}: {LEVEL}", found.lines[0])
    assert f"{library.PACKAGED} came with lightrnn and is loaded instead" in found.err
    for path in (cache, built):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_build_kernels_for_gpus(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightrnn.cuda import build, image

    def made(path: str) -> None:
        index = {"abi": abi.ABI, "sources": image.source_hash(), "toolkit": {}, "kernels": {}}
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("index.json", json.dumps(index))
            archive.writestr("sm_80/fill.cubin", b"code")
            archive.writestr("sm_90/fill.cubin", b"code")

    monkeypatch.setattr(build, "check_toolkit", lambda: None)
    monkeypatch.setattr(build, "build", made)
    found = lightrnn_command("build-kernels", "--cuda")
    assert found.status == 0
    built = cache / image.FILE_NAME
    assert found.lines == [f"{built}: sm_80, sm_90 and PTX"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (cache, built)] == [0o700, 0o600]
    monkeypatch.setattr(image, "PACKAGED", str(cache / "none"))
    assert image.find_image((9, 0)).code("fill") == (b"code", "cubin")


def test_kernels_that_cannot_be_built(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = pytest.importorskip("lightrnn.native.build")

    def no_linker(_: object) -> None:
        raise NativeError("no linker found")

    monkeypatch.setattr(build, "build", no_linker)
    assert failure(1, "build-kernels") == "no linker found"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    message = failure(1, "build-kernels")
    assert message == "numba is not installed: pip install 'lightrnn[kernels]'"
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert failure(1, "build-kernels").endswith("riscv64")
    assert not (cache / "lightrnn_kernels.so").exists()
