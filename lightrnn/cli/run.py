"""`lightrnn run`: a model over lines of text, or over arrays."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from lightrnn.cli.arguments import UsageError, command, positive
from lightrnn.cli.lines import ERRORS, Lines, check_readable
from lightrnn.cli.options import add_options, check_known, given
from lightrnn.cli.output import check_not_replaced, open_output
from lightrnn.cli.progress import Progress
from lightrnn.errors import InputError

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers
    from lightrnn.text.pipeline import Pipeline
    from lightrnn.text.tasks import Result, Task

_log = logging.getLogger("lightrnn")

FORMATS = ("text", "tsv", "jsonl")
_BREAKS = {"text": {10: "\\n", 13: "\\r"}, "tsv": {9: "\\t", 10: "\\n", 13: "\\r"}}
"""Characters that would end a line or column, and what stands for them."""


def add(subparsers: Subparsers) -> None:
    parser = command(subparsers, "run", "run a model over lines of text, or over arrays", run)
    parser.add_argument("model", metavar="MODEL", help="a .lrnn file")
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="UTF-8 text, also gzip; stdin by default and for -"
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="write here instead of to stdout")
    parser.add_argument(
        "--resume", action="store_true", help="go on where an interrupted run with -o stopped"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="label (text, the default), label and score, or JSON"
    )
    parser.add_argument("--scores", action="store_true", help="scores beside text: tsv")
    parser.add_argument(
        "--errors", choices=ERRORS, help="bytes that are not UTF-8: an error (strict), or U+FFFD"
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="lines in one run")
    parser.add_argument("--threads", type=positive, metavar="N", help="by default all cores")
    parser.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:N or auto"
    )
    parser.add_argument("--npz", metavar="IN.npz", help="inputs of a model that takes no text")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    check_not_replaced(args.model, args.output)
    if args.npz is None:
        _run_text(args)
        return 0
    if args.output is None:
        raise UsageError("--npz needs -o OUT.npz")
    of_text = args.files, args.format, args.batch_size, args.scores, args.errors, args.resume
    if any(of_text) or given(args):
        raise UsageError("--npz goes with -o, --threads and --device alone")
    _run_arrays(args)
    return 0


def _run_text(args: argparse.Namespace) -> None:
    check_readable(args.files)
    pipe = _pipeline(args)
    if pipe.task.reads is not str:
        raise UsageError("the model reads arrays, not lines: run it on arrays (--npz)")
    form = _form(args, pipe.task)
    lines = Lines(args.files, args.errors or "strict")
    empty, nothing = 0, pipe.task.empty()
    with _output(args, form, pipe.window) as (output, done):
        lines.skip(done)
        with Progress(sys.stderr, output, lines) as progress:
            for result in pipe.stream(lines, done):
                output.write(f"{_line(pipe.task, result, form)}\n".encode("utf-8", "replace"))
                if args.batch_size == 1:
                    output.flush()
                empty += result == nothing
                progress.advance()
    if empty:
        _log.warning("%d empty line%s left without a result", empty, "" if empty == 1 else "s")


def _pipeline(args: argparse.Namespace) -> Pipeline:
    from lightrnn.model import load
    from lightrnn.text.pipeline import Pipeline
    from lightrnn.text.tasks import find_task

    model = load(args.model, args.device, args.threads)
    options = given(args)
    check_known(options, find_task(model))
    try:
        return Pipeline(model, args.batch_size or 32, **options)
    except InputError as error:  # a value that an option does not take
        raise UsageError(str(error)) from None


def _form(args: argparse.Namespace, task: Task) -> str:
    if args.scores and "score" not in task.empty():
        raise UsageError(f"--scores is not for a model of {task.name}")
    if args.attention and args.format != "jsonl":
        raise UsageError("--attention needs --format jsonl")
    form: str = args.format or "text"
    return "tsv" if args.scores and form == "text" else form


@contextmanager
def _output(args: argparse.Namespace, form: str, window: int) -> Iterator[tuple[BinaryIO, int]]:
    """Where results go, and how many lines are done."""
    if not args.resume:
        with open_output(args.output) as output:
            yield output, 0
        return
    from lightrnn.cli.resume import described, digest, open_partial

    run: dict[str, Any] = {
        "model": digest(args.model), "files": described(args.files), "format": form,
        "batch size": window, "errors": args.errors or "strict", "options": given(args),
    }  # fmt: skip
    with open_partial(args.output, run, window) as found:
        yield found


def _line(task: Task, result: Result, form: str) -> str:
    if form == "jsonl":
        return json.dumps(result, ensure_ascii=False)
    cells = task.row(result) if form == "tsv" else [task.show(result)]
    return "\t".join(cell.translate(_BREAKS[form]) for cell in cells)


def _run_arrays(args: argparse.Namespace) -> None:
    from lightrnn.cli.arrays import read_arrays, write_arrays
    from lightrnn.model import load

    inputs = read_arrays(args.npz)
    results = load(args.model, args.device, args.threads).run(inputs)
    with open_output(args.output) as output:
        write_arrays(output, results)
