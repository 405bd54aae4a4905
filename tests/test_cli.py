"""`lightrnn run` on text: order, forms, encodings, files that are not what they should be."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightrnn.cli import lines as lines_module
from lightrnn.cli import main
from lightrnn.cli.progress import Progress
from tests.command import LANGID, answers, failure, lightrnn_command, lrnn_file, names, pipe

TEXTS = [
    "The weather was fine yesterday.", "", "Das Wetter war gestern schön.", "Η ζωή είναι ωραία.",
    "今日はとても暑いですね。", "x", "Сегодня хорошая погода", "", "Je ne sais pas où il est allé",
]  # fmt: skip


def written(folder: Path, name: str, data: bytes | list[str]) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else "".join(f"{t}\n" for t in data).encode())
    return path


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    return written(tmp_path, "lines.txt", TEXTS)


def parsed(line: str, form: str) -> Any:
    if form == "jsonl":
        return json.loads(line)
    label, _, score = line.partition("\t")
    assert not label or re.fullmatch(r"[01]\.\d{6}", score)
    return {"label": label, "score": float(score or 0)}


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
@pytest.mark.parametrize("size", [1, 4, 32])
def test_one_result_a_line_in_order(text_file: Path, form: str, size: int) -> None:
    found = lightrnn_command("run", LANGID, text_file, "--format", form, "--batch-size", size)
    assert found.status == 0
    expected = pipe()(TEXTS)
    assert [parsed(line, form) for line in found.lines] == [
        {"label": p["label"], "score": pytest.approx(p["score"], abs=2e-6)} for p in expected
    ]
    assert found.lines[1] == ('{"label": "", "score": 0.0}' if form == "jsonl" else "")
    assert found.err == "lightrnn: warning: 2 empty lines left without a result\n"


def test_the_label_alone_is_the_default(text_file: Path) -> None:
    assert lightrnn_command("run", LANGID, text_file).lines == answers(TEXTS)
    one = lightrnn_command("run", LANGID, stdin=b"\n")
    assert (one.out, one.err) == (b"\n", "lightrnn: warning: 1 empty line left without a result\n")


def test_more_lines_than_a_window(tmp_path: Path) -> None:
    texts = [TEXTS[k % 9] * (1 + k % 3) for k in range(150)]
    found = lightrnn_command("run", LANGID, written(tmp_path, "a", texts), "--batch-size", 2)
    assert found.lines == answers(texts)


SOURCES: dict[str, tuple[list[str], list[str]]] = {
    "nothing": ([], ["stdin"]),
    "a dash": (["-"], ["stdin"]),
    "one file": (["a"], ["a"]),
    "a file twice": (["a", "a"], ["a", "a"]),
    "stdin between files": (["b", "-", "a"], ["b", "stdin", "a"]),
    "files around options": (["b", "--format", "text", "a"], ["b", "a"]),
    "stdin after options": (["b", "--threads", "1", "-"], ["b", "stdin"]),
    "what looks like an option": (["--format", "text", "--", "-w"], ["-w"]),
    "after two dashes": (["b", "--", "-w", "a"], ["b", "-w", "a"]),
    "an empty file": (["empty", "a"], ["a"]),
}


@pytest.mark.parametrize("case", SOURCES)
def test_files_and_stdin(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"a": ["hello world", "bonjour tout le monde"], "b": ["guten Morgen"],
                "-w": ["buenos días a todos"], "stdin": ["dobrý den vám přeji"]}  # fmt: skip
    for name, texts in contents.items():
        written(tmp_path, name, texts)
    written(tmp_path, "empty", b"")
    monkeypatch.chdir(tmp_path)
    argv, order = SOURCES[case]
    found = lightrnn_command("run", LANGID, *argv, stdin=(tmp_path / "stdin").read_bytes())
    assert (found.status, found.err) == (0, "")
    assert found.lines == answers(t for name in order for t in contents[name])


LONG = "dlouhý řádek textu " * 100_000
ENCODED: dict[str, tuple[bytes, list[str]]] = {
    "CRLF": (b"one word\r\ndeux mots\r\n", ["one word", "deux mots"]),
    "no end": (b"one word\ndeux mots", ["one word", "deux mots"]),
    "CR inside": (b"one\rword\nx\r", ["one\rword", "x"]),
    "BOM": (b"\xef\xbb\xbfjedno slovo\n\xef\xbb\xbfx\n", ["jedno slovo", "\ufeffx"]),
    "BOM alone": (b"\xef\xbb\xbf", []),
    "BOM and an empty line": (b"\xef\xbb\xbf\n", [""]),
    "empty": (b"", []),
    "NUL": (b"one\0word\n\0\n", ["one\0word", "\0"]),
    "other separators": ("one\u2028two\x0bthree\x0cfour\x85\n".encode(),
                         ["one\u2028two\x0bthree\x0cfour\x85"]),
    "a very long line": (f"{LONG}\nx\n".encode(), [LONG, "x"]),
    "spaces": (b"  \n\t\n", ["  ", "\t"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ENCODED)
@pytest.mark.parametrize("stdin", [True, False])
def test_encodings_and_ends_of_lines(case: str, stdin: bool, tmp_path: Path) -> None:
    data, texts = ENCODED[case]
    if stdin:
        found = lightrnn_command("run", LANGID, stdin=data)
    else:
        found = lightrnn_command("run", LANGID, written(tmp_path, "a", data))
    assert found.status == 0
    assert found.lines == answers(texts)


def test_a_byte_order_mark_is_dropped_in_each_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a", "\ufeffжизнь\n".encode())
    assert lightrnn_command("run", LANGID, path, path).lines == answers(["жизнь"] * 2)


BAD_TEXT = {
    "Latin-1": ("fine\n\ncafé\n".encode("latin-1"), "line 3 is not UTF-8: byte 0xe9 at position 4"),
    "UTF-16": ("text\n".encode("utf-16"), "line 1 is not UTF-8: byte 0xff at position 1"),
    "binary": (bytes(range(256)), "line 2 is not UTF-8: byte 0x80 at position 118"),
    "cut off": ("fine\nж".encode()[:-1], "line 2 is not UTF-8: byte 0xd0 at position 1"),
    "surrogate": (b"\xed\xa0\x80\n", "line 1 is not UTF-8: byte 0xed at position 1"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_what_is_not_utf8_is_named_with_file_and_line(case: str, tmp_path: Path) -> None:
    data, message = BAD_TEXT[case]
    path = written(tmp_path, "bad.txt", data)
    before = [line.decode() for line in data.split(b"\n")[: int(message.split()[1]) - 1]]
    for found, name in (
        (lightrnn_command("run", LANGID, path), path),
        (lightrnn_command("run", LANGID, stdin=data), "<stdin>"),
    ):
        assert found.status == 1
        assert found.err == f"lightrnn: error: {name}: {message}\n"
        assert found.lines == answers(before)


def test_files_are_looked_for_before_any_is_read(text_file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    message = failure(1, "run", LANGID, text_file, missing)
    assert message == f"{missing}: No such file or directory"
    assert failure(1, "run", LANGID, text_file, tmp_path) == f"{tmp_path}: Is a directory"
    assert failure(1, "run", LANGID, "") == "'': No such file or directory"


@contextmanager
def somebody_else() -> Iterator[Path]:
    """A folder with a model, seen by a user who is not root, who may read and write everything."""
    pipe()  # imports what is needed
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, "m.lrnn", LANGID.read_bytes())
        written(folder, "secret.txt", TEXTS).chmod(0)
        folder.chmod(0o555)
        if before == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(before)
            folder.chmod(0o755)


def test_files_that_may_not_be_read_or_written() -> None:
    with somebody_else() as folder:
        secret, target = folder / "secret.txt", folder / "out.txt"
        reading = failure(1, "run", folder / "m.lrnn", secret)
        writing = failure(1, "run", folder / "m.lrnn", "-o", target)
    assert reading == f"{secret}: Permission denied"
    assert writing == f"{target}: Permission denied"


BAD_MODELS = {
    "missing": (None, "No such file or directory"),
    "a folder": (..., "Is a directory"),
    "empty": (b"", "file"),
    "text": (b"this is not a model\n" * 9, "header"),
    "cut off": (LANGID.read_bytes()[:5000], "header"),
    "NULs": (bytes(5000), "header"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
@pytest.mark.parametrize("command", ["run", "inspect"])
def test_what_is_not_a_model(command: str, case: str, tmp_path: Path) -> None:
    data, reason = BAD_MODELS[case]
    path = tmp_path / "m.lrnn"
    if data is ...:
        path.mkdir()
    elif data is not None:
        path.write_bytes(data)
    message = failure(1, command, path)
    assert message.startswith(f"{path}: ")
    assert reason in message


def test_a_model_without_text(tmp_path: Path) -> None:
    message = failure(1, "run", lrnn_file(tmp_path), stdin=b"text\n")
    assert "does not say how it reads text" in message
    assert "--npz" in message


WRONG = {
    "no command": ([], "COMMAND"),
    "no such command": (["walk"], "'walk'"),
    "no model": (["run"], "MODEL"),
    "format": (["run", "m", "--format", "xml"], "'xml'"),
    "no batch": (["run", "m", "--batch-size", "0"], "'0' is not a positive whole number"),
    "negative": (["run", "m", "--batch-size", "-3"], "--batch-size"),
    "fraction": (["run", "m", "--threads", "1.5"], "'1.5' is not a positive whole number"),
    "no threads": (["run", "m", "--threads", "0"], "'0' is not a positive whole number"),
    "unknown": (["run", "m", "a", "--speed"], "--speed (see `lightrnn run --help`)"),
    "abbreviated": (["run", "m", "--form", "text"], "--form"),
    "arrays without output": (["run", "m", "--npz", "a"], "--npz needs -o OUT.npz"),
    "arrays and files": (["run", "m", "f", "--npz", "a", "-o", "b"], "--npz goes with"),
    "arrays and format": (["run", "m", "--format", "tsv", "--npz", "a", "-o", "b"], "--npz goes"),
    "too many": (["doctor", "now"], "now (see `lightrnn doctor --help`)"),
    "no output": (["convert", "m.onnx"], "-o/--output"),
    "bad pair": (["convert", "m.onnx", "-o", "x", "--dim", "T"], "'T' is not NAME=N"),
    "bad value": (["convert", "m.onnx", "-o", "x", "--bind", "sr=fast"], "'fast' of 'sr'"),
    "bad shape": (["inspect", "m", "--plan", "x=2xT"], "'x=2xT' is not NAME=SHAPE"),
    "huge shape": (["inspect", "m", "--plan", "x=99999x99999"], "2**31 elements"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_status_2(case: str) -> None:
    argv, message = WRONG[case]
    assert message in failure(2, *argv)


def test_threads_and_device(text_file: Path) -> None:
    for threads in (1, 2):
        found = lightrnn_command("run", LANGID, text_file, "--threads", threads, "--device", "cpu")
        assert found.lines == answers(TEXTS)
    assert "'tpu'" in failure(1, "run", LANGID, text_file, "--device", "tpu")


def test_debug_shows_where(tmp_path: Path) -> None:
    for argv in (["--debug", "run", "missing"], ["run", "--debug", "missing"]):
        found = lightrnn_command(*argv)
        assert found.status == 1
        assert found.err.startswith("Traceback")
        assert found.err.endswith("\nlightrnn: error: missing: No such file or directory\n")


def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("first\nsecond\x1b[31m")

    monkeypatch.setattr(lines_module, "decoded", fail)
    message = failure(1, "run", LANGID)
    assert message.startswith("unexpected KeyError: ")
    assert message.endswith("(--debug shows where)")
    assert "\x1b" not in message


# Where results go


def test_output_to_a_file(text_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "labels.txt"
    target.parent.mkdir()
    found = lightrnn_command("run", LANGID, text_file, "-o", target)
    assert (found.status, found.out) == (0, b"")
    assert target.read_text().split("\n")[:-1] == answers(TEXTS)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    assert names(target.parent) == ["labels.txt"]


def test_output_dash_is_stdout(text_file: Path) -> None:
    assert lightrnn_command("run", LANGID, text_file, "-o", "-").lines == answers(TEXTS)


def test_output_replaces_a_file_and_keeps_its_mode(text_file: Path, tmp_path: Path) -> None:
    target = written(tmp_path, "labels.txt", b"before")
    target.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(target)
    assert lightrnn_command("run", LANGID, text_file, "-o", link).status == 0
    assert link.is_symlink()
    assert target.read_text().split("\n")[:-1] == answers(TEXTS)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_output_may_be_an_input(text_file: Path) -> None:
    assert lightrnn_command("run", LANGID, text_file, "-o", text_file).status == 0
    assert text_file.read_text().split("\n")[:-1] == answers(TEXTS)


def test_output_may_not_be_the_model(tmp_path: Path, text_file: Path) -> None:
    copy = written(tmp_path, "copy.lrnn", LANGID.read_bytes())
    assert "would replace" in failure(2, "run", copy, text_file, "-o", copy)
    assert copy.read_bytes() == LANGID.read_bytes()


@pytest.mark.parametrize("place", ["no/such/folder/out.txt", "", "."])
def test_output_where_no_file_can_be(place: str, text_file: Path, tmp_path: Path) -> None:
    target = f"{tmp_path}/{place}"
    reason = "No such file or directory" if place.startswith("no") else "Is a directory"
    assert failure(1, "run", LANGID, text_file, "-o", target).endswith(reason)
    assert failure(1, "run", LANGID, text_file, "-o", "").endswith("Is a directory")
    assert names(tmp_path) == ["lines.txt"]


@pytest.mark.parametrize("before", [None, b"before\n"])
def test_an_error_leaves_no_half_file(before: bytes | None, tmp_path: Path) -> None:
    source = written(tmp_path, "in.txt", b"fine\n" * 100 + b"\xff\n")
    target = tmp_path / "out.txt"
    if before is not None:
        target.write_bytes(before)
    found = lightrnn_command("run", LANGID, source, "-o", target, "--batch-size", 1)
    assert found.status == 1
    assert "line 101 is not UTF-8" in found.err
    assert (target.read_bytes() if target.exists() else None) == before
    assert names(tmp_path) == (["in.txt"] if before is None else ["in.txt", "out.txt"])


# Long inputs


def test_memory_holds_a_window_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are written while lines are read: no more lines are held than 16 batches."""
    read = written_lines = most = 0

    def endless() -> Iterator[bytes]:
        nonlocal read, most
        for k in range(3000):
            read += 1
            most = max(most, read - written_lines)
            yield b"hello\n" * (k % 2) or b"bonjour\n"

    def write(data: bytes) -> None:
        nonlocal written_lines
        written_lines += data.count(b"\n")

    target: Any = SimpleNamespace(write=write, flush=lambda: None, isatty=lambda: False)
    stdout = SimpleNamespace(buffer=target, flush=lambda: None)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless()))
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["run", str(LANGID), "--batch-size", "4"]) == 0
    assert written_lines == 3000
    assert most <= 64


class Terminal:
    """A stream that is a terminal, or not."""

    def __init__(self, is_terminal: bool) -> None:
        self.text = ""
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(("stderr", "stdout"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("total", [None, 13_000])
def test_progress_is_for_terminals(
    stderr: bool, stdout: bool, total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown where stderr is a terminal and results do not go there, and is wiped out."""
    clock = iter(range(10**6))
    monkeypatch.setattr("lightrnn.cli.progress.time.monotonic", lambda: next(clock))
    shown: Any = Terminal(stderr)
    results: Any = Terminal(stdout)
    read = SimpleNamespace(total=total, position=0)
    with Progress(shown, results, read) as progress:
        for k in range(1300):
            read.position = 10 * (k + 1)
            progress.advance()
    if stderr and not stdout:
        rest = "" if total is None else ", 98%, 0:00 left"
        assert f"\r1,280 lines, 64/s{rest}\x1b[K" in shown.text
        halfway = "" if total is None else ", 49%, 0:10 left"
        assert f"\r640 lines, 64/s{halfway}\x1b[K" in shown.text
        assert shown.text.endswith("\r\x1b[K")
    else:
        assert shown.text == ""
