"""The kernel library under test is always built from the sources beside it."""

from __future__ import annotations

import os
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lightrnn.cli import frontends
from lightrnn.native import library
from lightrnn.native.sources import source_hash


def pytest_configure(config: pytest.Config) -> None:
    """Rebuild the library where the sources have changed since it was built."""
    if os.environ.get("LIGHTRNN_NATIVE", "1") == "0":
        return
    packaged = Path(library.PACKAGED)
    # Not by loading it: a process that has loaded a library gets it again after it was rebuilt.
    if packaged.exists() and source_hash().encode() in packaged.read_bytes():
        return
    from lightrnn.native import build

    build.build(packaged)


@pytest.fixture
def declared_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of pyproject.toml, whether or not they were there when lightrnn was installed."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    points = [
        EntryPoint(name, value, group)
        for group, body in re.findall(r'\[project\.entry-points\."(.+)"\]\n((?:\w+ = .+\n)+)', text)
        for name, value in re.findall(r'(\w+) = "(.+)"', body)
    ]
    assert len(points) >= 5

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        return [p for p in points if (p.group, p.name) == (group, name)]

    monkeypatch.setattr(frontends, "entry_points", entry_points)
