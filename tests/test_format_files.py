"""Files on disk: mapped, written whole or not at all; old versions; what is documented."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import FormatError
from lightrnn.format import VERSION, container, dumps, limits, read, write
from lightrnn.graph import (
    DTYPES,
    MAX_RANK,
    MAX_SIZE,
    OPSETS,
)
from lightrnn.record import replace
from tests.attacks.base import FEEDS, valid_file
from tests.data import version_1
from tests.test_format import holding, kept

DATA = Path(__file__).parent / "data"

ONES = np.ones(1, np.float32)


def test_a_path_is_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "m.lrnn"
    write(path, holding(a=np.arange(1000, dtype=np.float32)))
    array: Any = kept(path)
    while isinstance(array.base, np.ndarray):
        array = array.base
    assert isinstance(array.base, memoryview)
    assert isinstance(array.base.obj, mmap.mmap)


def test_file_objects_are_read_from_where_they_are() -> None:
    stream = io.BytesIO(b"before" + valid_file())
    stream.seek(6)
    assert lightrnn.load(stream).graphs == ("main", "score")
    with pytest.raises(FormatError, match="gives str, expected bytes"):
        lightrnn.load(io.StringIO("text"))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_that_may_change_are_copied(kind: Callable[[bytearray], Any]) -> None:
    data = bytearray(valid_file())
    wanted, found = read(bytes(data)), read(kind(data))
    data[:] = bytes(len(data))
    for name, graph in wanted.graphs.items():
        for key, array in graph.constants.items():
            np.testing.assert_array_equal(found.graphs[name].constants[key], array)


@pytest.mark.parametrize("source", [None, 3, np.zeros(3)])
def test_what_is_no_file_is_refused(source: Any) -> None:
    with pytest.raises(FormatError, match="a file cannot be read from a"):
        lightrnn.load(source)


def test_read_only_files_and_folders_will_do(tmp_path: Path) -> None:
    path = tmp_path / "m.lrnn"
    path.write_bytes(valid_file())
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert lightrnn.load(path).run(FEEDS)["logits"].shape == (2, 3)
        assert [p.name for p in tmp_path.iterdir()] == ["m.lrnn"]
    finally:
        tmp_path.chmod(0o755)


def test_missing_files_and_folders_are_told_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.lrnn"):
        lightrnn.load(tmp_path / "none.lrnn")
    with pytest.raises(IsADirectoryError):
        lightrnn.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no folder" / "m.lrnn", holding(a=ONES))


@pytest.mark.parametrize("failure", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"what was there"])
def test_a_failed_write_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, old: bytes | None
) -> None:
    path = tmp_path / "m.lrnn"
    if old is not None:
        path.write_bytes(old)

    def interrupted(file: Any, *_: Any) -> None:
        file.write(b"half")
        file.flush()
        raise failure

    monkeypatch.setattr(container, "write", interrupted)
    with pytest.raises(type(failure)):
        write(path, holding(a=ONES))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"m.lrnn": old} if old else {})


def test_a_file_appears_at_once_and_with_the_usual_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.lrnn"
    path.write_bytes(b"old")
    seen: list[bytes] = []
    move = os.replace

    def watched(source: Any, target: Any) -> None:
        seen.extend((path.read_bytes(), Path(source).read_bytes()))
        move(source, target)

    monkeypatch.setattr(os, "replace", watched)
    before = os.umask(0o027)
    try:
        write(path, holding(a=ONES))
    finally:
        os.umask(before)
    assert seen == [b"old", path.read_bytes()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["m.lrnn"]


def test_a_long_file_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".lrnn")
    write(path, holding(a=ONES))
    assert path.read_bytes() == dumps(holding(a=ONES))


# Files of released versions


def test_version_1_stays_readable() -> None:
    model = lightrnn.load(DATA / "version-1.lrnn")
    arrays = np.load(DATA / "version-1.npz")
    assert model.graphs == ("main", "step")
    for graph in model.graphs:
        given = {k.split("/")[2]: arrays[k] for k in arrays if k.startswith(f"{graph}/in/")}
        expected = {k.split("/")[2]: arrays[k] for k in arrays if k.startswith(f"{graph}/out/")}
        results = model.run(given, graph=graph)
        assert results.keys() == expected.keys()
        for name, value in results.items():
            np.testing.assert_allclose(value, expected[name], atol=1e-6, rtol=1e-6, strict=True)
    assert model.metadata == {"licence": "Apache-2.0"}
    assert model.graph("step").states == {"h": "h_next", "c": "c_next"}
    (label,) = lightrnn.pipeline(model)(["abc"])
    assert label["label"] in version_1.TEXT["labels"]


def test_version_1_is_the_file_that_was_released() -> None:
    digest = hashlib.sha256((DATA / "version-1.lrnn").read_bytes()).hexdigest()
    assert digest == "266477b14e8db2ff720c1aaaa83f3e74e8e7beca100d6b721dcce0a009f01f4b"


# What docs/format.md says

DOCUMENT = Path(__file__).parents[1] / "docs" / "format.md"


def test_the_reader_that_is_documented_reads() -> None:
    code = DOCUMENT.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {}
    exec(code, scope)
    kinds = {"table": "int8_int8_int16", "r": "int8_int8_int8_int16", "out": "int8_columns"}
    integers = replace(version_1.model(), encodings=kinds)
    for file in (dumps(version_1.model()), valid_file(), dumps(integers)):
        tensors, graphs = scope["read"](file)
        expected = read(file)
        assert list(graphs) == list(expected.graphs)
        constants = {n: a for g in expected.graphs.values() for n, a in g.constants.items()}
        assert tensors.keys() == constants.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(array, constants[name], strict=True)


def test_limits_and_names_that_are_documented_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for limit in (limits.HEADER_BYTES, limits.TENSORS, limits.NODES, limits.VALUES):
        assert f"{limit:,}" in text
    assert f"at most {limits.SIGNATURE:,} each" in text
    assert f"at most {limits.NAME_LENGTH:,} characters" in text
    assert f"1 to {limits.GRAPHS} of them" in text
    assert f"at most {MAX_RANK} " in text
    assert MAX_SIZE == 2**48
    assert f"`{' '.join(container.CODES)}`" in text
    words = " ".join(text.split())
    assert all(f" {name}" in words or f"`{name}" in words for name in DTYPES)
    assert f"This is version {VERSION} " in text
    assert f"`{OPSETS[0]}` to `{OPSETS[-1]}`" in text
