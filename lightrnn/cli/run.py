"""`lightrnn run`: a model over lines of text, or over arrays."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import TYPE_CHECKING

from lightrnn.cli.arguments import UsageError, command, positive
from lightrnn.cli.lines import check_readable, read_lines
from lightrnn.cli.output import Progress, check_not_replaced, open_output

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers
    from lightrnn.text.tasks import Result, Task

_log = logging.getLogger("lightrnn")

FORMATS = ("text", "tsv", "jsonl")


def add(subparsers: Subparsers) -> None:
    parser = command(subparsers, "run", "run a model over lines of text, or over arrays", run)
    parser.add_argument("model", metavar="MODEL", help="a .lrnn file")
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="UTF-8 text; stdin by default and for -"
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="write here instead of to stdout")
    parser.add_argument(
        "--format", choices=FORMATS, help="label (text, the default), label and score, or JSON"
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="lines in one run")
    parser.add_argument("--threads", type=positive, metavar="N", help="by default all cores")
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu")
    parser.add_argument("--npz", metavar="IN.npz", help="inputs of a model that takes no text")


def run(args: argparse.Namespace) -> int:
    check_not_replaced(args.model, args.output)
    if args.npz is None:
        _run_text(args)
        return 0
    if args.output is None:
        raise UsageError("--npz needs -o OUT.npz")
    if args.files or args.format or args.batch_size:
        raise UsageError("--npz goes with -o, --threads and --device alone")
    _run_arrays(args)
    return 0


def _run_text(args: argparse.Namespace) -> None:
    from lightrnn.text.pipeline import pipeline

    check_readable(args.files)
    pipe = pipeline(args.model, args.batch_size or 32, args.threads, args.device)
    results = pipe.stream(read_lines(args.files))
    empty, nothing = 0, pipe.task.empty()
    with open_output(args.output) as output, Progress(sys.stderr, output) as progress:
        for result in results:
            line = _line(pipe.task, result, args.format)
            output.write(f"{line}\n".encode())
            if args.batch_size == 1:
                output.flush()
            empty += result == nothing
            progress.advance()
    if empty:
        _log.warning("%d empty line%s left without a result", empty, "" if empty == 1 else "s")


def _line(task: Task, result: Result, form: str | None) -> str:
    if form == "jsonl":
        return json.dumps(result, ensure_ascii=False)
    return "\t".join(task.row(result)) if form == "tsv" else task.show(result)


def _run_arrays(args: argparse.Namespace) -> None:
    from lightrnn.cli.arrays import read_arrays, write_arrays
    from lightrnn.model import load

    inputs = read_arrays(args.npz)
    results = load(args.model, args.device, args.threads).run(inputs)
    with open_output(args.output) as output:
        write_arrays(output, results)
