"""The `lightrnn` command: one module a subcommand, each with `add(subparsers)` and `run(args)`.

Exit status: 0, 1 where the command failed, 2 for wrong usage, 130 when interrupted. Results go to
stdout, everything else to stderr.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from lightrnn.cli import bench, build_kernels, convert, doctor, inspect, plot, run, verify
from lightrnn.cli.arguments import Parser, parse
from lightrnn.cli.process import guarded

COMMANDS = (convert, inspect, run, plot, verify, bench, doctor, build_kernels)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` by default from the command line. Returns the exit status."""
    return guarded(lambda args: _command(argv, args), Namespace(debug=False))


def _command(argv: Sequence[str] | None, args: Namespace) -> int:
    try:
        parse(_parser(), argv, args)
    except SystemExit as stop:  # --help, --version, or wrong usage, printed by then
        return stop.code if isinstance(stop.code, int) else 0
    status: int = args.run(args)
    return status


def _parser() -> Parser:
    from lightrnn import __version__

    parser = Parser(prog="lightrnn", description="Run trained recurrent models with NumPy alone.")
    parser.add_argument("--version", action="version", version=f"lightrnn {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for command in COMMANDS:
        command.add(subparsers)
    return parser
