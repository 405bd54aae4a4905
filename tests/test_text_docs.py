"""docs/text.md lists the fields that the parsers take and the options that tasks have."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import fields as dataclass_fields
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from lightrnn.graph import FLOAT32, INT64, Graph, TensorType
from lightrnn.text import parse_task, parse_tokenizer
from lightrnn.text.fields import Fields
from lightrnn.text.tasks import TASKS
from lightrnn.text.tokenizers import KINDS
from tests.command import ROOT

PAGE = (ROOT / "docs" / "text.md").read_text(encoding="utf-8")
SHARED = "Every tokenizer"


def section(name: str) -> str:
    found = re.search(rf"^### {name}\n(.*?)(?=^##+ |\Z)", PAGE, re.M | re.S)
    assert found is not None, f"docs/text.md has no section on {name}"
    return found[1]


def listed(name: str, heading: str = "field") -> set[str]:
    """First column of a section's table."""
    found = re.search(rf"^\| {heading} \|.*\n\|[ |-]+\n((?:\| .*\n)+)", section(name), re.M)
    return set() if found is None else set(re.findall(r"^\| `(\w+)` \|", found[1], re.M))


def example(name: str) -> dict[str, Any]:
    found = re.search(r"```json\n(.*?)```", section(name), re.S)
    assert found is not None
    spec: dict[str, Any] = json.loads(found[1])
    return spec


def inputs(**ranks: int) -> dict[str, TensorType]:
    return {name: TensorType(INT64, ("N", "T")[:rank]) for name, rank in ranks.items()}


def output(*shape: int | str) -> TensorType:
    return TensorType(FLOAT32, shape)


STATE = output("N", 8)


def interface(
    inputs: dict[str, TensorType],
    outputs: dict[str, TensorType],
    states: dict[str, str] | None = None,
) -> Graph:
    """A graph that computes nothing."""
    return Graph(inputs, outputs, (), {}, states or {})


GRAPHS = {
    "classification": {"main": interface(inputs(ids=2, lengths=1), {"logits": output("N", 3)})},
    "ctc": {"main": interface(inputs(ids=2, lengths=1),
        {"logits": output("N", "T2", 4), "frames": TensorType(INT64, ("N",))})},
    "tagging": {"main": interface(inputs(ids=2, lengths=1), {"logits": output("N", "T", 3)})},
    "generation": {"main": interface(
        {**inputs(ids=2, category=1), "h": STATE},
        {"logits": output("N", "T", 9), "h_out": STATE}, {"h": "h_out"},
    )},
    "translation": {
        "encoder": interface(inputs(ids=2, lengths=1),
                         {"last": STATE, "memory": output("N", "T", 8)}),
        "decoder": interface(
            {**inputs(token=1, lengths=1), "hidden": STATE, "memory": output("N", "T", 8)},
            {"logits": output("N", 9), "weights": output("N", "T"), "hidden_out": STATE},
            {"hidden": "hidden_out"},
        ),
    },
}  # fmt: skip
"""Interfaces of the graphs that the page's examples are for."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The fields that parsers ask for, by the object that holds them."""
    found: dict[str, set[str]] = defaultdict(set)
    take = Fields.take

    def recorded(self: Fields, name: str, *args: Any, **options: Any) -> Any:
        found[self.what].add(name)
        return take(self, name, *args, **options)

    monkeypatch.setattr(Fields, "take", recorded)
    return found


def test_sections_are_those_of_kinds_and_tasks() -> None:
    found = re.findall(r"^### (.+)$", PAGE, re.M)
    assert sorted(found) == sorted([SHARED, *KINDS, *TASKS])


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_a_tokenizer(kind: str, taken: dict[str, set[str]]) -> None:
    spec = example(kind)
    assert spec["kind"] == kind
    parse_tokenizer(spec)
    assert taken["tokenizer"] == listed(SHARED) | listed(kind)
    assert not listed(SHARED) & listed(kind)


@pytest.mark.parametrize("task", TASKS)
def test_fields_and_options_of_a_task(task: str, taken: dict[str, set[str]]) -> None:
    spec, graphs = example(task), GRAPHS[task]
    model: Any = SimpleNamespace(
        text=spec, graphs=tuple(graphs), graph=graphs.__getitem__, stream=lambda: None
    )
    assert parse_task(model).name == task
    assert taken["text"] == listed(task)
    for inner in ("condition", "decoder"):
        assert taken.get(inner, set()) == listed(task, f"field of `{inner}`")
    options = getattr(import_module(f"lightrnn.text.tasks.{task}"), TASKS[task]).Options
    assert {field.name for field in dataclass_fields(options)} == listed(task, "option")
