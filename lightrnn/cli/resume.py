"""An output that an interrupted run leaves behind and the next one goes on with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lightrnn.cli.arguments import UsageError
from lightrnn.cli.lines import regular_size
from lightrnn.cli.output import naming
from lightrnn.errors import InputError


@contextmanager
def open_partial(
    path: str | None, run: Mapping[str, Any], window: int
) -> Iterator[tuple[BinaryIO, int]]:
    """OUT.partial to append to, and the number of lines that it holds from earlier runs.

    It becomes OUT at the end; an error or interrupt leaves it, and OUT.partial.json, which holds
    `run`: JSON values of all that decides the results, by name. window: lines that are computed
    together; of an earlier run whole windows are kept, so that what follows is computed as it
    would have been without the interrupt.

    Raises InputError where the earlier run was another one, or is still going on.
    """
    target = _target(path)
    partial, record = Path(f"{target}.partial"), Path(f"{target}.partial.json")
    with naming(str(partial)), _appendable(partial) as file:
        if os.fstat(file.fileno()).st_size:
            _check_same(partial, record, run)
        else:
            record.write_text(json.dumps(run, indent=1), encoding="utf-8")
        done = _keep_windows(file, window)
        try:
            yield file, done
        except (KeyboardInterrupt, SystemExit):
            print(f"lightrnn: interrupted: {partial} keeps what is done, "
                  "the same command goes on from there", file=sys.stderr)  # fmt: skip
            raise
        file.flush()
        if target.exists():
            shutil.copymode(target, partial)
        os.replace(partial, target)
        record.unlink()


def described(files: Sequence[str]) -> list[list[Any]]:
    """Input files as they are now: name, size and time of the last change."""
    names = files or ("-",)
    return [
        [name] if regular_size(name) is None
        else [os.path.realpath(name), os.path.getsize(name), os.stat(name).st_mtime_ns]
        for name in names
    ]  # fmt: skip


def digest(path: str) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _target(path: str | None) -> Path:
    if path is None or path == "-":
        raise UsageError("--resume needs -o OUT")
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise UsageError(f"--resume needs -o with a regular file, {path} is none")
    return target


@contextmanager
def _appendable(path: Path) -> Iterator[BinaryIO]:
    """A file, made where there is none, for this process alone where the system has locks."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        with suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{path}: another run is writing it") from None
        yield file


def _check_same(partial: Path, record: Path, run: Mapping[str, Any]) -> None:
    """Raise InputError unless an earlier run's record says the same as this run's."""
    remedy = f"delete {partial} to begin anew"
    try:
        before = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{record} does not say what {partial} comes from; {remedy}") from None
    now = json.loads(json.dumps(run))
    if others := [name for name in now if name not in before or before[name] != now[name]]:
        raise InputError(f"{partial}: comes from a run with other {', '.join(others)}; {remedy}")


def _keep_windows(file: BinaryIO, window: int) -> int:
    """Cut a file to whole windows of whole lines, leave it at its end; the lines kept."""
    kept = kept_end = end = 0
    for number, line in enumerate(file, 1):
        end += len(line)
        if number % window == 0 and line.endswith(b"\n"):
            kept, kept_end = number, end
    file.seek(kept_end)
    file.truncate()
    return kept
