"""What runs is NumPy and lightrnn alone: in fresh processes that are watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.format import ModelFile, write
from lightrnn.native import library
from tests.test_engine import recurrent_graph

ROOT = Path(__file__).parents[1]
LANGID = ROOT / "examples" / "langid" / "langid.lrnn"

WATCHED = """
import json, os, sys

before = {name.partition(".")[0] for name in sys.modules}
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
changing = ("os.", "shutil.", "subprocess.", "socket.", "tempfile.", "pty.")
harmless = ("os.listdir", "os.scandir", "os.walk", "os.putenv", "os.unsetenv")
done, libraries = [], []

def watch(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & writing:
        done.append(f"{event} {args[0]}")
    elif event.startswith(changing) and event not in harmless:
        done.append(event)
    elif event == "ctypes.dlopen" and args[0] is not None:
        libraries.append(str(args[0]))

sys.addaudithook(watch)
import numpy as np
import lightrnn
"""
REPORT = """
known = {*sys.stdlib_module_names, "numpy", "lightrnn", *before}
files = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
foreign = {name for name in files if name.partition(".")[0] not in known}
compiling = "lightrnn.kernels", "lightrnn.native.build"
compilers = {name for name in sys.modules if name.startswith(compiling)}
print(json.dumps({"results": results, "done": done, "libraries": libraries,
                  "foreign": sorted(foreign | compilers)}))
"""
ARRAYS = """
x = np.linspace(-1, 1, 160, dtype=np.float32).reshape(5, 2, 16)
model = lightrnn.load(sys.argv[1])
results = model.run({"x": x})["y"].tolist()
assert model(x).tolist() == results
"""
TEXTS = """
results = lightrnn.pipeline(sys.argv[1])(["これはペンです", "", "안녕하세요"])
"""


def watched(code: str, model: Path, folder: Path, **environment: str) -> dict[str, Any]:
    """Run code on a model in a fresh process, in an empty folder; what it did and what it gave."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    home.chmod(0o555)
    defaults = {"PYTHONPATH": str(ROOT), "HOME": str(home), "LIGHTRNN_THREADS": "2"}
    wanted = {k: v for k, v in {**defaults, **environment}.items() if v}
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", WATCHED + code + REPORT, str(model)],
        env=wanted,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
    report: dict[str, Any] = json.loads(done.stdout)
    return {**report, "warnings": done.stderr}


@pytest.fixture
def lstm(tmp_path: Path) -> Path:
    path = tmp_path / "lstm.lrnn"
    write(path, ModelFile({"main": recurrent_graph("LSTM", 16)}))
    path.chmod(0o444)
    return path


def expected(lstm: Path) -> Any:
    x = np.linspace(-1, 1, 160, dtype=np.float32).reshape(5, 2, 16)
    return lightrnn.load(lstm).run({"x": x})["y"]


@pytest.mark.native
def test_a_run_needs_numpy_and_the_kernel_library_alone(lstm: Path, tmp_path: Path) -> None:
    report = watched(ARRAYS, lstm, tmp_path)
    assert report["foreign"] == []
    assert report["done"] == []
    assert report["libraries"] == [library.PACKAGED]
    assert report["warnings"] == ""
    np.testing.assert_array_equal(np.float32(report["results"]), expected(lstm))


@pytest.mark.native
def test_text_needs_nothing_more(tmp_path: Path) -> None:
    report = watched(TEXTS, LANGID, tmp_path)
    assert report["foreign"] == []
    assert report["done"] == []
    assert report["libraries"] == [library.PACKAGED]
    assert report["warnings"] == ""
    assert [r["label"] for r in report["results"]] == ["ja", "", "ko"]


def test_without_kernels_nothing_is_loaded_or_built(lstm: Path, tmp_path: Path) -> None:
    report = watched(ARRAYS, lstm, tmp_path, LIGHTRNN_NATIVE="0")
    assert report["foreign"] == []
    assert report["done"] == []
    assert report["libraries"] == []
    assert "lightrnn build-kernels" in report["warnings"]
    np.testing.assert_allclose(report["results"], expected(lstm), atol=1e-6)


HOMES = {
    "none": {"HOME": ""},
    "one that does not exist": {"HOME": "/nonexistent/home"},
    "one where nobody can write": {"HOME": "/proc"},
    "a file": {"HOME": "/dev/null"},
    "a cache that does not exist": {"XDG_CACHE_HOME": "/nonexistent/cache"},
    "a relative cache": {"XDG_CACHE_HOME": "cache"},
}


@pytest.mark.parametrize("packaged", [True, False])
@pytest.mark.parametrize("home", HOMES)
def test_any_home_will_do(home: str, packaged: bool, lstm: Path, tmp_path: Path) -> None:
    if packaged and not os.path.exists(library.PACKAGED):
        pytest.skip("no packaged library")
    code = ARRAYS if packaged else NO_LIBRARY + ARRAYS
    report = watched(code, lstm, tmp_path, **HOMES[home])
    assert report["done"] == []
    assert report["libraries"] == ([library.PACKAGED] if packaged else [])
    np.testing.assert_allclose(report["results"], expected(lstm), atol=1e-6)


NO_LIBRARY = """
from lightrnn.native import library
library.PACKAGED, library.FILE_NAME = "/nonexistent/kernels.so", "nonexistent.so"
"""


def test_a_fresh_process_would_notice(lstm: Path, tmp_path: Path) -> None:
    """The watch itself: what is forbidden is seen."""
    code = f"""
import decimal, subprocess
sys.path.append({str(tmp_path)!r})
import intruder
open(os.devnull, "w").close()
subprocess.run(["true"])
results = []
"""
    (tmp_path / "intruder.py").write_text("")
    report = watched(code, lstm, tmp_path)
    assert report["foreign"] == ["intruder"]
    assert {"subprocess.Popen", f"open {os.devnull}"} <= set(report["done"])
