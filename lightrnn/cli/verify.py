"""`lightrnn verify`: a .lrnn file against the model that it was converted from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lightrnn.cli.arguments import command
from lightrnn.cli.output import say

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers


def add(subparsers: Subparsers) -> None:
    parser = command(subparsers, "verify", "compare a model with its ONNX source", run)
    parser.add_argument("model", metavar="MODEL", help="a .lrnn file")
    parser.add_argument("reference", metavar="REFERENCE", help="the .onnx file it came from")
    parser.add_argument("--npz", metavar="IN.npz", help="inputs; random ones by default")
    parser.add_argument("--graph", metavar="NAME", help="which of the file's graphs; the first")
    parser.add_argument(
        "--bisect", action="store_true", help="name the first node that differs, where one does"
    )


def run(args: argparse.Namespace) -> int:
    from lightrnn.cli import frontends
    from lightrnn.cli.arrays import read_arrays
    from lightrnn.errors import VerificationError
    from lightrnn.model import load

    model = load(args.model)
    feeds = None if args.npz is None else read_arrays(args.npz)
    verify = frontends.find(frontends.VERIFIERS, "onnx")
    report = verify(model, args.reference, feeds, graph=args.graph, bisect=args.bisect)
    say(report)
    if not report.passed:
        raise VerificationError(f"{args.model} differs from {args.reference}")
    return 0
