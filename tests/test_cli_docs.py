"""`--help` and docs/cli.md say all that the parser knows."""

from __future__ import annotations

import argparse
import re

import pytest

import lightrnn
from lightrnn.cli import COMMANDS, _parser
from tests.command import ROOT, lightrnn_command

DOCS = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def parsers() -> dict[str, argparse.ArgumentParser]:
    (actions,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(actions.choices)


def section(name: str) -> str:
    """The page's part on one command."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", DOCS, re.M | re.S)
    assert found is not None, f"docs/cli.md has no section on {name}"
    return found[1]


def usage(name: str) -> str:
    """The command lines at the start of its part."""
    found = re.search(r"```\n(.*?)```", section(name), re.S)
    assert found is not None
    return found[1]


def test_each_command_has_a_section() -> None:
    assert len(parsers()) == len(COMMANDS)
    assert set(re.findall(r"^## (.+)$", DOCS, re.M)) == set(parsers())
    for option in ("--help", "--debug", "--version"):
        assert f"`{option}`" in DOCS or f"lightrnn {option}" in DOCS


@pytest.mark.parametrize("name", parsers())
def test_each_option_is_documented_and_exists(name: str) -> None:
    common = {"-h", "--help", "--debug"}
    options = {o for a in parsers()[name]._actions for o in a.option_strings} - common
    rows = {
        option
        for line in section(name).splitlines()
        if line.startswith("| `")
        for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line.split("|")[1])
    }
    assert rows == options
    shown = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", usage(name)))
    assert shown <= options
    for action in parsers()[name]._actions:
        strings = set(action.option_strings)
        assert strings <= common or not strings or strings & shown, f"{action} is not in the usage"


@pytest.mark.parametrize("name", parsers())
def test_each_argument_is_in_the_usage(name: str) -> None:
    assert usage(name).startswith(f"lightrnn {name}")
    for action in parsers()[name]._actions:
        if not action.option_strings:
            assert str(action.metavar) in usage(name)


@pytest.mark.parametrize("name", parsers())
def test_help_of_each_command(name: str) -> None:
    found = lightrnn_command(name, "--help")
    assert (found.status, found.err) == (0, "")
    text = found.out.decode()
    for action in parsers()[name]._actions:
        assert all(option in text for option in action.option_strings)
        assert action.help, f"{action.dest} of {name} has no help"


def test_help_and_version() -> None:
    found = lightrnn_command("--help")
    assert (found.status, found.err) == (0, "")
    for name in parsers():
        assert re.search(rf"^ +{name}\b", found.out.decode(), re.M)
    version = lightrnn_command("--version")
    assert version.lines == [f"lightrnn {lightrnn.__version__}"]
