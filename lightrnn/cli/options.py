"""The options of tasks on the command line."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lightrnn.cli.arguments import Parser, UsageError, positive

if TYPE_CHECKING:
    from lightrnn.text.tasks import Task


def add_options(parser: Parser) -> None:
    """Add them, each under the name that it has in the task's options."""
    group = parser.add_argument_group("options of some tasks")
    for name, kind, metavar, summary in (
        ("top-k", _whole, "N", "classification: labels of a line; generation: draw from N tokens"),
        ("threshold", _number, "P", "classification: the least probability of a label"),
        ("beam", positive, "N", "translation, ctc: hypotheses kept"),
        ("n-best", positive, "N", "translation, ctc: results of a line"),
        ("length-penalty", _number, "A", "translation: rank by log-probability / length**A"),
        ("max-length", positive, "N", "translation: tokens of a result at most"),
        ("length", positive, "N", "generation: tokens added at most"),
        ("temperature", _number, "T", "generation: divides the scores; 0 takes the most likely"),
        ("top-p", _number, "P", "generation: draw from tokens that have this probability together"),
        ("seed", _whole, "N", "generation: of the random numbers"),
        ("stop", str, "TEXT", "generation: end a result after this text"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar=metavar, help=summary)
    group.add_argument(
        "--attention", action="store_const", const=True,
        help="translation: the weights over the line's tokens, in jsonl",
    )  # fmt: skip


OPTIONS = (
    "top_k", "threshold", "beam", "n_best", "length_penalty", "max_length", "length",
    "temperature", "top_p", "seed", "stop", "attention",
)  # fmt: skip


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The options of tasks that were given, by name."""
    found = {name: getattr(args, name) for name in OPTIONS}
    return {name: value for name, value in found.items() if value is not None}


def check_known(options: dict[str, Any], task: type[Task]) -> None:
    """Raise UsageError for an option that the task does not have."""
    known = [field.name for field in fields(task.Options)]
    for name in options:
        if name not in known:
            listed = ", ".join(map(flag, known)) or "no options"
            raise UsageError(f"{flag(name)} is not for a model of {task.name}, which has {listed}")


def flag(name: str) -> str:
    """An option as it is written on the command line."""
    return f"--{name.replace('_', '-')}"


def _whole(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
