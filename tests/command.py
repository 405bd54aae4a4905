"""The command line under test: in this process, or in one of its own; and files to try it on."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import lightrnn
from lightrnn.cli import main
from lightrnn.graph import Array
from tests.onnx_models import FLOAT, model, node

ROOT = Path(__file__).resolve().parents[1]
LANGID = ROOT / "examples" / "langid" / "langid.lrnn"

SLOW = "no kernel library"
"""Begins the warning of runs on NumPy, which may come with every command."""


@dataclass(frozen=True)
class Outcome:
    """err: what stderr says, without the warning that kernels are missing."""

    status: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stdout; each must have its end."""
        *lines, rest = self.out.decode().split("\n")
        assert rest == ""
        return lines


def lightrnn_command(*argv: object, stdin: bytes = b"") -> Outcome:
    """Run the command in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n"), io.StringIO()
    source = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)))
    with mock.patch.object(sys, "stdin", source), redirect_stdout(out), redirect_stderr(err):
        status = main([str(a) for a in argv])
        out.flush()
        return Outcome(status, out.buffer.getvalue(), _without_slow(err.getvalue()))


def inspected(path: Path) -> Any:
    """What `inspect --json` says."""
    found = lightrnn_command("inspect", path, "--json")
    assert (found.status, found.err) == (0, "")
    return json.loads(found.out)


def failure(status: int, *argv: object, stdin: bytes = b"") -> str:
    """The one line on stderr of a command that prints nothing and ends with this status."""
    outcome = lightrnn_command(*argv, stdin=stdin)
    assert (outcome.status, outcome.out) == (status, b"")
    prefix, message = outcome.err[:17], outcome.err[17:]
    assert prefix == "lightrnn: error: "
    assert message.endswith("\n")
    assert message.count("\n") == 1
    return message.rstrip("\n")


def started(*argv: object, shell: str = 'exec "$@"', **options: Any) -> subprocess.Popen[bytes]:
    """The command in a process of its own, started by a line of shell."""
    words = ["sh", "-c", shell, "sh", sys.executable, "-m", "lightrnn", *map(str, argv)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, **options}
    return subprocess.Popen(words, **options)


def ended(process: subprocess.Popen[bytes], seconds: float = 60) -> Outcome:
    """What became of a process."""
    out, err = process.communicate(timeout=seconds)
    return Outcome(process.returncode, out or b"", _without_slow((err or b"").decode()))


def _without_slow(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if SLOW not in line)


@cache
def pipe() -> Any:
    """The language identifier in Python."""
    return lightrnn.pipeline(LANGID)


def answers(texts: Iterable[str]) -> list[str]:
    """The labels that the command should print for these lines."""
    return [str(result["label"]) for result in pipe()(list(texts))]


WEIGHTS = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.0]], np.float32)


def onnx_file(folder: Path, name: str = "tanh.onnx", scale: float = 1) -> Path:
    """An ONNX file: y [N, 2] = tanh(x [N, 3] · WEIGHTS · scale)."""
    nodes = [node("MatMul", ["x", "w"], ["xw"]), node("Tanh", ["xw"], ["y"], name="squash")]
    proto = model(
        nodes,
        {"x": (FLOAT, ["N", 3])},
        {"y": (FLOAT, ["N", 2])},
        {"w": WEIGHTS * np.float32(scale)},
    )
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def lrnn_file(folder: Path, **options: Any) -> Path:
    """The same as a .lrnn file."""
    from lightrnn_converters import convert_onnx

    path = folder / "tanh.lrnn"
    convert_onnx(onnx_file(folder), path, **options)
    return path


def tanh(x: Array) -> Array:
    """What the model computes, in float64."""
    return np.tanh(x.astype(np.float64) @ WEIGHTS.astype(np.float64))


def names(folder: Path) -> list[str]:
    """All files of a folder, hidden ones too."""
    return sorted(os.listdir(folder))
