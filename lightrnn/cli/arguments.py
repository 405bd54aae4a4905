"""The command line's parser and the forms of its arguments."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from lightrnn.errors import LightRNNError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction["Parser"]

T = TypeVar("T")


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
    parser.set_defaults(run=run, parser=parser)
    return parser


def parse(parser: Parser, argv: Sequence[str] | None, args: argparse.Namespace) -> None:
    """Parse arguments into `args`. A command's `files` may also follow its options."""
    given = sys.argv[1:] if argv is None else list(argv)
    plain = given[given.index("--") + 1 :] if "--" in given else []
    _, rest = parser.parse_known_args(given, args)
    unknown = [a for a in rest if a.startswith("-") and a not in ("-", "--") and a not in plain]
    if rest and (unknown or not hasattr(args, "files")):
        args.parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        args.files += [a for a in rest if a != "--"]


def by_name(pairs: Sequence[tuple[str, T]], option: str) -> dict[str, T]:
    """The values of an option that takes pairs. Raises UsageError for a name that comes twice."""
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"--{option} {name} is given twice")
        found[name] = value
    return found


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


def dtype_pair(text: str) -> tuple[str, str]:
    """PATTERN=DTYPE, or DTYPE for the pattern `*`."""
    return _pair(text, "PATTERN=DTYPE") if "=" in text else ("*", text)


def shape_pair(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=SHAPE, the sizes joined by `x`; commas will do."""
    name, value = text.rpartition("=")[::2]
    sizes = value.replace(",", "x").split("x") if value else []
    if not name or not all(s.isascii() and s.isdecimal() for s in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHAPE, such as x=2x5x64")
    shape = tuple(int(s) for s in sizes)
    if math.prod(shape) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} has 2**31 elements or more")
    return name, shape


def _pair(text: str, form: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not {form}")
    return name, value
