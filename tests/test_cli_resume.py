"""`lightrnn run --resume`: an interrupted output goes on, without loss or repeats."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import LANGID, answers, ended, failure, lightrnn_command, names, started
from tests.text_models import MODELS, saved, written

AS_USUAL = (
    f"exec {sys.executable} -c 'import os, signal, sys; "
    "[signal.signal(s, signal.SIG_DFL) for s in (2, 15)]; os.execv(sys.argv[1], sys.argv[1:])'"
    ' "$@"'
)
"""A line of shell: signals that the tests' own parent ignores would stay so."""


def texts_of(count: int) -> list[str]:
    rng = random.Random(0)
    words = ["guten", "Morgen", "bonjour", "le", "monde", "dobrý", "den", "жизнь", "今日は"]
    return [" ".join(rng.choices(words, k=rng.randint(0, 12))) for _ in range(count)]


def resumable(source: Path, target: Path, *more: object) -> tuple[object, ...]:
    return ("run", LANGID, source, "-o", target, "--resume", "--format", "jsonl",
            "--batch-size", 4, *more)  # fmt: skip


def whole(source: Path, target: Path) -> bytes:
    found = lightrnn_command("run", LANGID, source, "--format", "jsonl", "--batch-size", 4)
    assert found.status == 0
    return found.out


def test_an_output_that_was_not_interrupted(tmp_path: Path) -> None:
    source, target = written(tmp_path, texts_of(150)), tmp_path / "out"
    for _ in range(2):
        found = lightrnn_command(*resumable(source, target))
        assert (found.status, found.out) == (0, b"")
        assert target.read_bytes() == whole(source, target)
        assert names(tmp_path) == ["in.txt", "out"]


def interrupted(source: Path, target: Path, *more: object) -> Path:
    """What a run leaves that was cut off: its input ended in a bad line, which is mended then."""
    good = source.read_bytes()
    source.write_bytes(good[: len(good) // 2] + b"\xff\n" + bytes(len(good) - len(good) // 2 - 2))
    now = os.stat(source).st_mtime_ns
    assert lightrnn_command(*resumable(source, target, *more)).status == 1
    source.write_bytes(good)
    os.utime(source, ns=(now, now))
    return Path(f"{target}.partial")


@pytest.mark.parametrize("kept", [0, 1, 1000, 4321, 7777])
def test_a_run_goes_on_wherever_it_was_cut(kept: int, tmp_path: Path) -> None:
    """Killed at any byte: what is left ends in a torn line, a whole one or nothing."""
    source, target = written(tmp_path, texts_of(400)), tmp_path / "out"
    wanted = whole(source, target)
    target.write_bytes(b"before\n")
    target.chmod(0o640)
    partial = interrupted(source, target)
    assert target.read_bytes() == b"before\n"
    assert wanted.startswith(b"".join(partial.read_bytes().splitlines(keepends=True)[:64]))
    assert len(partial.read_bytes()) > 7777
    with partial.open("r+b") as file:
        file.truncate(kept)
    found = lightrnn_command(*resumable(source, target, "--threads", 1))
    assert (found.status, found.out) == (0, b"")
    assert target.read_bytes() == wanted
    assert target.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["in.txt", "out"]


def test_resuming_computes_no_line_twice(tmp_path: Path) -> None:
    """Whole windows that are done are kept as they are, even where somebody changed them."""
    source, target = written(tmp_path, texts_of(400)), tmp_path / "out"
    partial = interrupted(source, target)
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(b"mark\n" * len(lines))
    assert lightrnn_command(*resumable(source, target)).status == 0
    marked = target.read_bytes().splitlines().count(b"mark")
    assert len(lines) - 64 < marked <= len(lines)
    assert marked % 64 == 0


def test_seeds_of_resumed_lines(tmp_path: Path) -> None:
    source, target = written(tmp_path, ["a"] * 50), tmp_path / "out"
    model = saved(tmp_path, "generator")
    argv = ("run", model, source, "--length", 5, "--batch-size", 1)
    wanted = lightrnn_command(*argv).out
    assert len(set(wanted.splitlines())) > 10
    source.write_bytes(b"a\n" * 20 + b"\xff\n" + b"a\n" * 29)
    stamp = os.stat(source).st_mtime_ns
    assert lightrnn_command(*argv, "-o", target, "--resume").status == 1
    source.write_bytes(b"a\n" * 50)
    os.utime(source, ns=(stamp, stamp))
    assert (tmp_path / "out.partial").read_bytes().count(b"\n") == 20
    assert lightrnn_command(*argv, "-o", target, "--resume").status == 0
    assert target.read_bytes() == wanted


CHANGES = {
    "options": ["--top-k", "2"],
    "format": ["--format", "tsv"],
    "errors": ["--errors", "replace"],
    "batch size": ["--batch-size", "8"],
    "files": ["another.txt"],
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_run_is_not_resumed(name: str, tmp_path: Path) -> None:
    source, target = written(tmp_path, texts_of(200)), tmp_path / "out"
    partial = interrupted(source, target)
    before = partial.read_bytes()
    more = [str(written(tmp_path, ["x"], m)) if m.endswith("txt") else m for m in CHANGES[name]]
    message = failure(1, *resumable(source, target, *more))
    assert message == (
        f"{partial}: comes from a run with other {name}; delete {partial} to begin anew"
    )
    assert partial.read_bytes() == before


def test_another_model_or_a_changed_file_is_not_resumed(tmp_path: Path) -> None:
    source, target = written(tmp_path, ["abc"] * 20), tmp_path / "out"
    model = saved(tmp_path, "classifier")
    argv = ("run", model, source, "-o", target, "--resume", "--batch-size", 1)
    source.write_bytes(b"abc\n\xff\n")
    assert lightrnn_command(*argv).status == 1
    model.write_bytes(MODELS["multiple"])
    assert "with other model;" in failure(1, *argv)
    model.write_bytes(MODELS["classifier"])
    source.write_bytes(b"abcd\n")
    assert "with other files;" in failure(1, *argv)
    (tmp_path / "out.partial.json").write_text("[")
    assert "does not say what" in failure(1, *argv)
    (tmp_path / "out.partial").unlink()
    assert lightrnn_command(*argv).status == 0


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    source, target = written(tmp_path, ["abc"]), tmp_path / "out"
    with (tmp_path / "out.partial").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another run is writing it" in failure(1, *resumable(source, target))


def test_stdin_that_ends_before_what_is_done(tmp_path: Path) -> None:
    target = tmp_path / "out"
    argv = ("run", LANGID, "-o", target, "--resume", "--batch-size", 1)
    assert lightrnn_command(*argv, stdin=b"a\nb\nc\n\xff\n").status == 1
    assert "the input has 2 lines, of which 3" in failure(1, *argv, stdin=b"a\nb\n")
    assert lightrnn_command(*argv, stdin=b"a\nb\nc\nd\n").status == 0
    assert target.read_text().split("\n")[:-1] == answers(["a", "b", "c", "d"])


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    source, target = written(tmp_path, texts_of(600)), tmp_path / "out"
    full = ended(started(*resumable(source, target), shell='ulimit -f 8; exec "$@"'))
    assert (full.status, full.out) == (1, b"")
    assert full.err == f"lightrnn: error: {target}.partial: File too large\n"
    assert lightrnn_command(*resumable(source, target)).status == 0
    assert target.read_bytes() == whole(source, target)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_that_a_signal_ends_goes_on(number: int, status: int, tmp_path: Path) -> None:
    target, partial = tmp_path / "out", tmp_path / "out.partial"
    argv = ("run", LANGID, "-o", target, "--resume", "--format", "jsonl")
    lines = b"".join(b"guten Morgen %d\n" % k for k in range(1500))
    process = started(*argv, stdin=subprocess.PIPE, shell=AS_USUAL)
    assert process.stdin is not None
    process.stdin.write(lines)
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 20_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    found = ended(process)
    hint = (
        f"lightrnn: interrupted: {partial} keeps what is done, "
        "the same command goes on from there\n"
    )
    assert (found.status, found.out) == (status, b"")
    assert found.err == ("" if number == signal.SIGKILL else hint)
    assert names(tmp_path) == ["out.partial", "out.partial.json"]
    assert lightrnn_command(*argv, stdin=lines).status == 0
    assert target.read_bytes() == lightrnn_command(*argv[:2], *argv[5:], stdin=lines).out
