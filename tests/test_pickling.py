"""Models in pickles: what stands for the file, and what is refused when they come back."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lightrnn
from lightrnn import source
from lightrnn.errors import FormatError
from lightrnn.format import ModelFile, dumps
from tests.command import ROOT
from tests.test_engine import recurrent_graph

X = np.linspace(-1, 1, 160, dtype=np.float32).reshape(5, 2, 16)
FRESH = """
import pickle, sys

model, x = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps((model(x), model._threads)))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "m.lrnn"
    found.write_bytes(content(16))
    return found


@pytest.fixture
def by_path(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Files of this size are too large to be pickled whole."""
    monkeypatch.setattr(source, "PICKLED_BYTES", path.stat().st_size - 1)


def content(hidden: int) -> bytes:
    return dumps(ModelFile({"main": recurrent_graph("LSTM", hidden)}))


def in_a_fresh_process(pickled: bytes, folder: Path) -> tuple[lightrnn.graph.Array, int | None]:
    """What the model of a pickled (model, inputs) gives there, and the threads it was set to."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH],
        input=pickled,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: tuple[lightrnn.graph.Array, int | None] = pickle.loads(done.stdout)
    return found


def replaced(path: Path) -> None:
    """Another file under the same name, as an atomic write leaves it."""
    other = path.with_name("other")
    other.write_bytes(content(8))
    other.replace(path)


def overwritten(path: Path) -> None:
    """Other bytes in the same file, as many as before, and the time of another second."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(0, 10**18))


CHANGES = [replaced, overwritten]


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_small_file_travels_whole(path: Path, threads: int | None, tmp_path: Path) -> None:
    model = lightrnn.load(path, threads=threads)
    expected = model(X)
    pickled = pickle.dumps((model, X))
    path.unlink()
    found, kept = in_a_fresh_process(pickled, tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert kept == threads


@pytest.mark.usefixtures("by_path")
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_large_file_is_found_from_any_folder(
    path: Path, threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = lightrnn.load(path.name, threads=threads)
    monkeypatch.chdir("/")
    pickled = pickle.dumps((model, X))
    assert len(pickled) < X.nbytes + 1000
    found, kept = in_a_fresh_process(pickled, Path("/"))
    np.testing.assert_array_equal(found, model(X))
    assert kept == threads


@pytest.mark.usefixtures("by_path")
def test_bytes_of_any_size_travel_as_bytes(path: Path) -> None:
    model = lightrnn.load(path.read_bytes())
    path.unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(X), model(X))


def test_the_limit_is_the_largest_that_travels_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PICKLED_BYTES", path.stat().st_size)
    pickled = pickle.dumps(lightrnn.load(path))
    path.unlink()
    pickle.loads(pickled)


def test_a_copy_of_a_copy_needs_no_file(path: Path) -> None:
    model = copy.deepcopy(lightrnn.load(path))
    path.unlink()
    np.testing.assert_array_equal(copy.copy(model)(X), pickle.loads(pickle.dumps(model))(X))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_has_changed_is_not_pickled(
    change: Callable[[Path], None], whole: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PICKLED_BYTES", 2**20 if whole else 0)
    model = lightrnn.load(path)
    change(path)
    with pytest.raises(FormatError, match=f"^{path} has changed since the model was loaded"):
        pickle.dumps(model)


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_is_gone_is_not_pickled(
    whole: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PICKLED_BYTES", 2**20 if whole else 0)
    model = lightrnn.load(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=str(path)):
        pickle.dumps(model)


@pytest.mark.usefixtures("by_path")
@pytest.mark.parametrize("change", [*CHANGES, lambda path: path.write_bytes(b"")])
def test_another_file_in_its_place_is_refused(change: Callable[[Path], None], path: Path) -> None:
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    pickled = pickle.dumps(lightrnn.load(path))
    change(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    said = f"^{path} is not the file that was pickled: its SHA-256 is {found}, expected {expected}$"
    with pytest.raises(FormatError, match=said):
        pickle.loads(pickled)


@pytest.mark.usefixtures("by_path")
def test_the_same_bytes_in_another_file_are_as_good(path: Path) -> None:
    model = lightrnn.load(path)
    pickled, data = pickle.dumps(model), path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    np.testing.assert_array_equal(pickle.loads(pickled)(X), model(X))


@pytest.mark.usefixtures("by_path")
def test_a_missing_file_is_named(path: Path) -> None:
    pickled = pickle.dumps(lightrnn.load(path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=str(path)):
        pickle.loads(pickled)


@pytest.mark.usefixtures("by_path")
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_between_check_and_load_is_refused(
    change: Callable[[Path], None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled, check = pickle.dumps(lightrnn.load(path)), source.Source.check

    def checked_too_early(self: source.Source, digest: str) -> None:
        check(self, digest)
        change(path)

    monkeypatch.setattr(source.Source, "check", checked_too_early)
    with pytest.raises(FormatError, match=f"^{path} has changed since"):
        pickle.loads(pickled)


def test_hashing_is_no_part_of_a_start(path: Path) -> None:
    code = "import sys, lightrnn; lightrnn.load(sys.argv[1]); print('hashlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"
