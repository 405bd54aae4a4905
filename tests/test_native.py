"""The kernel library: what it exports and needs, its levels, and what is refused by name."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import lightrnn
from lightrnn.cli import main
from lightrnn.engine import native_calls
from lightrnn.engine.executor import Executor
from lightrnn.engine.prepare import PackedStore, Prepared, prepare
from lightrnn.errors import NativeError
from lightrnn.native import abi, library
from lightrnn.native.sources import checksum, source_hash
from lightrnn.ops.packing import MIXED
from tests.elf import Elf
from tests.kernels import address
from tests.test_engine import recurrent_graph, sequence

native = pytest.mark.native


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No library loaded yet, and nothing asked for by the environment."""
    monkeypatch.delenv("LIGHTRNN_LEVEL", raising=False)
    monkeypatch.delenv("LIGHTRNN_NATIVE", raising=False)
    library.load.cache_clear()
    yield
    library.load.cache_clear()


def built() -> bytes:
    """The library under test, its checksum apart."""
    return Path(library.PACKAGED).read_bytes()[:-4]


def patched(symbol: str, code: str) -> bytes:
    """The library with other machine code for a function."""
    data, place = bytearray(built()), Elf.of(built()).symbols[symbol]
    assert place is not None
    new = bytes.fromhex(code)
    data[place : place + len(new)] = new
    return bytes(data)


def sealed(data: bytes) -> bytes:
    return data + checksum(data)


def flipped(place: int) -> bytes:
    """The library with one bit changed, its checksum as it was."""
    data = bytearray(Path(library.PACKAGED).read_bytes())
    data[place % len(data)] ^= 4
    return bytes(data)


# What the library is


@native
def test_it_needs_nothing_but_three_functions_of_memory() -> None:
    elf = Elf.of(built())
    undefined = {name for name, place in elf.symbols.items() if place is None}
    assert undefined <= {"memcpy", "memmove", "memset"}
    assert elf.needed == 0
    assert not elf.relocates_code
    assert not elf.executable_stack


@native
def test_it_exports_every_kernel_for_every_level_and_nothing_else() -> None:
    exported = {name for name, place in Elf.of(built()).symbols.items() if place is not None}
    kernels = {f"lr_{level}_{name}" for level in abi.LEVELS for name in abi.kernels_of(level)}
    assert exported == kernels | {"lr_abi", "lr_hash", "lr_level"}


@native
def test_it_says_which_sources_it_was_built_from() -> None:
    assert source_hash().encode() in built()
    found = library.load()
    assert found is not None
    assert found.path == library.PACKAGED
    assert found.level in abi.LEVELS
    assert len(set(found.addresses.values())) == len(found.addresses)


# Levels


def executors(monkeypatch: pytest.MonkeyPatch) -> list[Executor]:
    """One for each level; skips where this CPU lacks the best."""
    made = []
    for level in abi.LEVELS:
        monkeypatch.setenv("LIGHTRNN_LEVEL", level)
        try:
            found = library.open_library(library.PACKAGED)
        except NativeError as error:
            pytest.skip(str(error))
        assert found is not None
        assert found.level == level
        made.append(Executor(found, 1))
    return made


def prepared(op: str, hidden: int, stored: str) -> Prepared:
    graph = recurrent_graph(op, hidden, lengths=True)
    if stored == "mixed":
        stored = MIXED.get(op.lower(), "int16")
    encodings = dict.fromkeys([n for n, a in graph.constants.items() if a.ndim == 3], stored)
    return prepare(graph, tuple(graph.outputs), PackedStore(), encodings)


@native
@pytest.mark.parametrize("stored", ["float32", "int16", "int8", "mixed"])
@pytest.mark.parametrize("hidden", [5, 16, 67])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_all_levels_give_the_same_bits(
    op: str, hidden: int, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = prepared(op, hidden, stored)
    for steps, batch in ((1, 1), (9, 3), (30, 17)):
        x = sequence(steps, batch, hidden)
        lengths = steps - np.arange(batch, dtype=np.int32) % (steps + 1)
        plan = ready.plan((x.shape, lengths.shape))
        assert plan.host_steps == ()
        results = [e.run(plan, [x, lengths])[0] for e in executors(monkeypatch)]
        assert results[0].any()
        for other in results[1:]:
            assert other.tobytes() == results[0].tobytes()


@native
def test_all_levels_give_langid_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    executors(monkeypatch)
    path = Path(__file__).parents[1] / "examples" / "langid" / "langid.lrnn"
    results = []
    for level in abi.LEVELS:
        monkeypatch.setenv("LIGHTRNN_LEVEL", level)
        library.load.cache_clear()
        results.append(
            lightrnn.pipeline(path)(["One sentence.", "Noch ein Satz.", "もう一つ", "x"])
        )
    for other in results[1:]:
        assert other == results[0]


@native
def test_all_levels_give_encoded_weights_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    executors(monkeypatch)
    data = Path(__file__).parent / "data"
    arrays = np.load(data / "version-1.npz")
    feeds = {k.split("/")[2]: arrays[k] for k in arrays if k.startswith("step/in/")}
    results = []
    for level in abi.LEVELS:
        monkeypatch.setenv("LIGHTRNN_LEVEL", level)
        library.load.cache_clear()
        found = lightrnn.load(data / "version-1.lrnn").run(feeds, graph="step")
        results.append({name: array.tobytes() for name, array in found.items()})
    for other in results[1:]:
        assert other == results[0]


@native
@pytest.mark.parametrize("level", ["v9", "V3", "avx2"])
def test_an_unknown_level_is_refused(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTRNN_LEVEL", level)
    with pytest.raises(NativeError, match=f"LIGHTRNN_LEVEL is '{level}', this CPU runs v3"):
        library.load()


# Refusals: the form of the file, where it lies, and what the doctor says

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "damaged"),
    "a text": (lambda: b"#!/bin/sh\n", "damaged, its checksum does not fit"),
    "no library, sealed": (lambda: sealed(b"#!/bin/sh\n"), "cannot be loaded"),
    "cut after 1 byte": (lambda: built()[:1], "damaged"),
    "cut after 100 bytes": (lambda: built()[:100], "damaged"),
    "cut in its code": (lambda: built()[:200_000], "damaged"),
    "cut before its checksum": (built, "damaged"),
    "one byte more": (lambda: sealed(built()) + b"\0", "damaged"),
    "a bit of its head changed": (lambda: flipped(20), "damaged"),
    "a bit of its code changed": (lambda: flipped(150_000), "damaged"),
    "a bit of its checksum changed": (lambda: flipped(-1), "damaged"),
    "other sources": (
        lambda: sealed(built().replace(source_hash().encode(), b"0" * len(source_hash()))),
        "built from other kernel sources; run `lightrnn build-kernels`",
    ),
    "another ABI": (
        lambda: sealed(patched("lr_abi", "b8 63 00 00 00 c3")),  # mov eax, 99; ret
        f"ABI 99, expected {abi.ABI}; run `lightrnn build-kernels`",
    ),
}


@native
@pytest.mark.parametrize("place", ["packaged", "cached"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_library_is_refused_by_name(
    case: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make, message = REFUSED[case]
    data = make()
    path = put(data, place, tmp_path, monkeypatch)
    with pytest.raises(NativeError, match=message) as caught:
        library.load()
    assert str(caught.value).startswith(f"{path}: ")
    assert main(["doctor"]) == 1
    assert f"kernels   refused: {caught.value}" in capsys.readouterr().out


def put(data: bytes, place: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library put where the packaged or the cached one is looked for, and no other."""
    monkeypatch.setattr(library, "PACKAGED", str(folder / "packaged.so"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    path = Path(library.PACKAGED if place == "packaged" else str(library.cached_path()))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@native
def test_a_good_cached_library_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(sealed(built()), "cached", tmp_path, monkeypatch)
    found = library.load()
    assert found is not None
    assert found.path == str(path)
    assert main(["doctor"]) == 0
    assert f"x86-64-{found.level}, from the cached library {path}" in capsys.readouterr().out


def everybody_may_write(path: Path) -> None:
    path.chmod(0o702)


def the_group_may_write(path: Path) -> None:
    path.chmod(0o720)


def belongs_to_another(path: Path) -> None:
    try:
        os.chown(path, 65534, -1)
    except PermissionError:
        pytest.skip("only root can give files away")


@native
@pytest.mark.parametrize("which", ["file", "folder"])
@pytest.mark.parametrize("how", [everybody_may_write, the_group_may_write, belongs_to_another])
def test_a_cached_library_that_others_can_change_is_refused(
    how: Callable[[Path], None],
    which: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = put(sealed(built()), "cached", tmp_path, monkeypatch)
    place = path if which == "file" else path.parent
    how(place)
    message = f"{place}: must belong to you and be writable by you alone"
    with pytest.raises(NativeError, match=message):
        library.load()
    assert main(["doctor"]) == 1
    assert message in capsys.readouterr().out


@native
def test_a_link_out_of_the_private_folder_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(sealed(built()), "cached", tmp_path, monkeypatch)
    public = tmp_path / "public"
    public.mkdir()
    public.chmod(0o777)
    shutil.move(path, public / "kernels.so")
    path.symlink_to(public / "kernels.so")
    with pytest.raises(NativeError, match="public: must belong to you"):
        library.load()


# No library


@native
def test_a_cpu_below_every_level_runs_on_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none = patched("lr_level", "31 c0 c3")  # xor eax, eax; ret
    path = put(sealed(none), "packaged", tmp_path, monkeypatch)
    assert library.load() is None
    assert main(["doctor"]) == 0
    assert f"NumPy semantics, which are slow: {path} has nothing" in capsys.readouterr().out
    monkeypatch.setenv("LIGHTRNN_LEVEL", "v3")
    library.load.cache_clear()
    with pytest.raises(NativeError, match="'v3', this CPU runs no level"):
        library.load()


def test_no_library_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(b"", "cached", tmp_path, monkeypatch).unlink()
    assert library.load() is None
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert f"no library at {library.PACKAGED} nor {library.cached_path()}" in told
    assert "`lightrnn build-kernels` builds one" in told


def test_native_code_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIGHTRNN_NATIVE", "0")
    assert library.load() is None
    assert main(["doctor"]) == 0
    assert "NumPy semantics, which are slow: LIGHTRNN_NATIVE is 0" in capsys.readouterr().out


def test_a_switch_that_is_not_understood_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIGHTRNN_NATIVE", "no")
    with pytest.raises(NativeError, match="LIGHTRNN_NATIVE is 'no', expected 0 or 1"):
        library.load()
    assert main(["doctor"]) == 1
    assert "refused: LIGHTRNN_NATIVE is 'no'" in capsys.readouterr().out


def test_other_platforms_run_on_numpy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert library.load() is None
    assert main(["doctor"]) == 0
    assert "there are no kernels for" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["", "relative/cache"])
def test_the_cache_is_in_the_home_folder(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert library.cached_path() == f"/home/somebody/.cache/lightrnn/{library.FILE_NAME}"


def test_without_a_home_there_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "PACKAGED", str(tmp_path / "none.so"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without an entry
    assert library.cached_path() is None
    assert library.load() is None
    assert main(["doctor"]) == 0
    assert f"no library at {tmp_path / 'none.so'};" in capsys.readouterr().out
    pytest.importorskip("numba")
    assert main(["build-kernels"]) == 1
    assert "set HOME or XDG_CACHE_HOME" in capsys.readouterr().err


@native
def test_a_model_is_not_loaded_with_a_library_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falling back in silence would hide that something is wrong."""
    put(built(), "packaged", tmp_path, monkeypatch)
    model = Path(__file__).parent / "data" / "version-1.lrnn"
    with pytest.raises(NativeError, match="damaged"):
        lightrnn.load(model)
    monkeypatch.setenv("LIGHTRNN_NATIVE", "0")
    assert lightrnn.load(model).graphs == ("main", "step")


@native
@pytest.mark.parametrize("python", ["with builtin functions", "without"])
def test_bound_calls_return_the_status(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty program, whose status somebody else has set."""
    if python == "without":
        monkeypatch.delattr(ctypes, "pythonapi")
    kernels = library.load()
    assert kernels is not None
    status = np.array([7, 0])
    words = np.array([0, 0, 0, 0, address(status)])
    bound = native_calls.binder.__wrapped__(kernels)(address(words))
    assert bound() == 7
    status[0] = 0
    assert [bound() for _ in range(1000)] == [0] * 1000
