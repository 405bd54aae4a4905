"""The command line's parser and the forms of its arguments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from lightrnn.errors import LightRNNError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction["Parser"]


class UsageError(LightRNNError):
    """Arguments that do not go together; exit status 2."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and that knows no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"lightrnn: error: {message} (see `{self.prog} --help`)\n")


def command(subparsers: Subparsers, name: str, summary: str, run: Any) -> Parser:
    """Add a subcommand; `run` takes its arguments and returns the exit status."""
    parser = subparsers.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors"
    )
    parser.set_defaults(run=run)
    return parser


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse arguments. A command's `files` may also follow its options."""
    args, rest = parser.parse_known_args(argv)
    unknown = [a for a in rest if a.startswith("-") and a != "-"]
    if rest and (unknown or not hasattr(args, "files")):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        args.files += rest
    return args


def positive(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def value_pair(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value a number, true, false or a list of them."""
    name, value = _pair(text, "NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{value!r} of {name!r} is not a number, true, false or a list such as [1, 2]"
        ) from None


def size_pair(text: str) -> tuple[str, int]:
    """NAME=N."""
    name, value = _pair(text, "NAME=N")
    return name, positive(value)


def name_pair(text: str) -> tuple[str, str]:
    """IN=OUT."""
    return _pair(text, "IN=OUT")


def shape_pair(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=SHAPE, the sizes joined by `x`; commas will do."""
    name, value = text.rpartition("=")[::2]
    sizes = value.replace(",", "x").split("x") if value else []
    if not name or not all(s.isascii() and s.isdecimal() for s in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHAPE, such as x=2x5x64")
    return name, tuple(int(s) for s in sizes)


def _pair(text: str, form: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not {form}")
    return name, value
