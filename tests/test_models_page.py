"""docs/models.md: every section has Python blocks, and all of them run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.command import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
TITLES = re.findall(r"^### (.+)$", PAGE, re.M)


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def section(title: str) -> str:
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##+ |\Z)", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


def anchor(title: str) -> str:
    """What GitHub calls a heading in links."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_the_table_lists_the_sections() -> None:
    rows = re.findall(r"^\| \[(.+)\]\(#(.+?)\) \| .+ \| .+ \|$", PAGE, re.M)
    assert rows == [(title, anchor(title)) for title in TITLES]


@pytest.mark.parametrize("title", TITLES)
def test_recipes_run(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A section's blocks, in order, after the page's first one; they end with a comparison."""
    recipes = blocks(section(title))
    assert recipes, f"{title} has no Python block"
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    with torch.random.fork_rng(), torch.no_grad():
        for block in (blocks(PAGE)[0], *recipes):
            exec(compile(block, title, "exec"), names)
    assert all(re.search(r"^ *(assert|np\.testing\.)", block, re.M) for block in recipes)
    assert list(tmp_path.glob("*.lrnn"))
