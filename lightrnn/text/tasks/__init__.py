"""What models do with text: the tasks that a model file can name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lightrnn.errors import TextError
from lightrnn.model import Model
from lightrnn.text.fields import Fields
from lightrnn.text.tasks.base import Result, Task

__all__ = ["TASKS", "Result", "Task", "find_task", "parse_task"]

TASKS = {
    "classification": "Classification",
    "ctc": "CTC",
    "generation": "Generation",
    "tagging": "Tagging",
    "translation": "Translation",
}
"""Task name, which is also that of its module, to its class."""


def find_task(model: Model) -> type[Task]:
    """The class of the task that a model's file names. Raises TextError."""
    return _find(_fields(model))


def parse_task(model: Model, options: Mapping[str, Any] | None = None) -> Task:
    """The task that a model's file describes.

    options: what the caller chooses; each task has its own. Raises TextError for anything that
    is not understood, InputError for an option that the task does not have.
    """
    fields = _fields(model)
    task = _find(fields).parse(fields, model, options or {})
    fields.finish()
    return task


def _fields(model: Model) -> Fields:
    if model.text is None:
        raise TextError("the model does not say how it reads text: run it on arrays (--npz)")
    return Fields(model.text, "text")


def _find(fields: Fields) -> type[Task]:
    name = fields.one_of("task", tuple(TASKS))
    found: type[Task] = getattr(import_module(f"lightrnn.text.tasks.{name}"), TASKS[name])
    return found
