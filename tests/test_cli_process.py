"""The command in a process of its own: pipes, signals, closed and full streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import lightrnn
from tests.command import LANGID, SLOW, answers, ended, lrnn_file, names, started

SIGNALS_AS_USUAL = (
    "import os, signal, sys; [signal.signal(s, signal.SIG_DFL) for s in (1, 2, 15)]; "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""Signals that the tests' own parent ignores, in the background or under nohup, would stay so."""

LINES = b"hello world\nbonjour tout le monde\nguten Morgen\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_bytes(LINES)
    return path


def run(*argv: object, **options: Any) -> Any:
    return ended(started(*argv, **options))


def test_python_m_lightrnn_is_the_command(source: Path) -> None:
    found = run("--version")
    assert (found.status, found.out) == (0, f"lightrnn {lightrnn.__version__}\n".encode())
    found = run("run", LANGID, source)
    assert (found.status, found.err) == (0, "")
    assert found.lines == answers(LINES.decode().split("\n")[:-1])


def test_it_reads_a_pipe(source: Path) -> None:
    found = run("run", LANGID, "-", shell='printf "guten Morgen" | exec "$@"')
    assert found.lines == answers(["guten Morgen"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_quiet(unbuffered: str) -> None:
    """`lightrnn run ... | head -1` on endless input."""
    process = started(
        "run", LANGID, stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        shell='yes "hello world" | { "$@"; echo "status $?" >&2; } | head -1',
    )  # fmt: skip
    found = ended(process)
    assert found.lines == answers(["hello world"])
    assert found.err == "status 0\n"


@pytest.mark.parametrize("command", [["doctor"], ["inspect", LANGID], ["--help"]])
def test_other_commands_are_quiet_too(command: list[object]) -> None:
    found = run(*command, shell='{ "$@"; echo "status $?" >&2; } | :')
    assert (found.out, found.err) == (b"", "status 0\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirection", "error"),
    [
        (">/dev/full", "<stdout>: No space left on device"),
        (">&-", "<stdout>: Bad file descriptor"),
        ("<&-", "<stdin>: Bad file descriptor"),
    ],
)
def test_streams_that_are_full_or_closed(redirection: str, error: str, unbuffered: str) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    found = run("run", LANGID, shell=f'echo hello | {{ exec "$@" {redirection}; }}', env=env)
    assert (found.status, found.out) == (1, b"")
    assert found.err == f"lightrnn: error: {error}\n"


@pytest.mark.parametrize("command", [["doctor"], ["inspect", LANGID]])
def test_results_that_cannot_be_printed_are_a_failure(command: list[object]) -> None:
    for redirection in (">/dev/full", ">&-"):
        found = run(*command, shell=f'exec "$@" {redirection}')
        assert found.status == 1
        assert found.err.startswith("lightrnn: error: <stdout>: ")
        assert found.err.count("\n") == 1


def test_closed_streams_that_are_not_needed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    found = run("run", LANGID, source, "-o", target, shell='exec "$@" <&- >&- 2>&-')
    assert found.status == 0
    assert len(target.read_bytes().splitlines()) == 3
    missing = run("run", LANGID, "missing", shell='exec "$@" 2>&-')
    assert (missing.status, missing.out) == (1, b"")


def test_a_full_disk(source: Path, tmp_path: Path) -> None:
    found = run("run", LANGID, source, "-o", "/dev/full")
    assert found.status == 1
    assert found.err == "lightrnn: error: /dev/full: No space left on device\n"
    full = run("run", LANGID, source, "-o", tmp_path / "out", shell='ulimit -f 0; exec "$@"')
    assert (full.status, full.err) == (1, f"lightrnn: error: {tmp_path}/out: File too large\n")
    assert names(tmp_path) == ["in.txt"]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("before", [None, b"before\n"])
def test_an_interrupted_output_leaves_no_half_file(
    number: int, status: int, before: bytes | None, tmp_path: Path
) -> None:
    target = tmp_path / "out.txt"
    if before is not None:
        target.write_bytes(before)
    process = started(
        "run",
        LANGID,
        "-o",
        target,
        "--batch-size",
        1,
        stdin=subprocess.PIPE,
        shell=f"exec {sys.executable} -c '{SIGNALS_AS_USUAL}' \"$@\"",
    )
    assert process.stdin is not None
    process.stdin.write(LINES)
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(p.name != "out.txt" and p.stat().st_size for p in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    found = ended(process)
    assert (found.status, found.out, found.err) == (status, b"", "")
    assert names(tmp_path) == ([] if before is None else ["out.txt"])
    assert before is None or target.read_bytes() == before


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As `nohup` asks for."""
    process = started("run", LANGID, "--batch-size", 1, shell="trap '' HUP; exec \"$@\"",
                      stdin=subprocess.PIPE)  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"hello world\n")
    process.stdin.flush()
    first = process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    found = ended(process)
    assert (found.status, first.decode().split()) == (0, answers(["hello world"]))


def test_one_by_one_each_line_is_answered_before_the_next(tmp_path: Path) -> None:
    process = started("run", LANGID, "--batch-size", 1, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in LINES.splitlines(keepends=True):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline().decode().split() == answers([line.decode().strip()])
    assert ended(process).status == 0


def test_no_locale_changes_results(tmp_path: Path) -> None:
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    model = lrnn_file(tmp_path, metadata={"note": "für 中文"})
    assert "note: für 中文" in run("inspect", model, env=env).lines
    missing = run("run", LANGID, tmp_path / "中文.txt", env=env)
    assert (missing.status, missing.err.count("\n")) == (1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals are tried on Linux")
def test_on_a_terminal_results_are_lines_too(source: Path) -> None:
    import pty

    parent, child = pty.openpty()
    process = started("run", LANGID, source, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    assert process.wait(60) == 0
    lines = [line for line in shown.decode().split("\r\n") if SLOW not in line]
    assert lines == [*answers(LINES.decode().split("\n")[:-1]), ""]
