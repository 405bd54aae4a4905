"""Building the kernel library: linkers, failures, whole files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrnn.errors import NativeError
from lightrnn.native import abi, build, library
from lightrnn.native.sources import checksum
from lightrnn.record import replace


def test_without_a_linker_the_error_names_linkers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeError, match=r"install one of ld, ld\.lld, cc, gcc, clang"):
        build.build(tmp_path / "kernels.so")
    assert list(tmp_path.iterdir()) == []


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("linker", build.LINKERS)
def test_any_linker_will_do_and_its_failure_is_told(
    linker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, linker, "echo no such option >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.find_linker() == str(tmp_path / linker)
    with pytest.raises(NativeError, match="linking failed: no such option"):
        build.link(build.find_linker(), [tmp_path / "a.o"], tmp_path / "a.so")


def test_a_build_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "kernels.so"
    monkeypatch.setattr(build, "find_linker", lambda: "ld")
    monkeypatch.setattr(build, "_compile_in_process", lambda level, path: path.write_text(level))

    def link(_: str, objects: list[Path], path: Path) -> None:
        path.write_text("".join(o.read_text() for o in objects))

    monkeypatch.setattr(build, "link", link)
    build.build(target)
    code = "".join(abi.BUILT).encode()
    expected = code + checksum(code)
    assert target.read_bytes() == expected
    library._check_whole(str(target))

    def fail(*_: object) -> None:
        raise NativeError("compiling failed")

    monkeypatch.setattr(build, "_compile_in_process", fail)
    with pytest.raises(NativeError, match="compiling failed"):
        build.build(target)
    assert target.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [target]


def test_a_kernel_that_differs_from_the_abi_is_not_built() -> None:
    pytest.importorskip("numba")
    known = abi.KERNELS["fill"]
    with pytest.raises(NativeError, match=r"kernel fill: parameters .*'target'.* the ABI says"):
        build.load_entry(replace(known, parameters=known.parameters[::-1]))
