"""`lightrnn inspect`: what a file holds, and what would run."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from lightrnn.cli.arguments import UsageError, by_name, command, shape_pair
from lightrnn.cli.output import say

if TYPE_CHECKING:
    from lightrnn.cli.arguments import Subparsers
    from lightrnn.engine.plan import Plan
    from lightrnn.format import ModelFile
    from lightrnn.graph import Graph, TensorType

Shapes: TypeAlias = "Mapping[str, tuple[int, ...]]"


def add(subparsers: Subparsers) -> None:
    parser = command(subparsers, "inspect", "show what a model holds and what would run", run)
    parser.add_argument("model", metavar="MODEL", help="a .lrnn file")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument(
        "--plan", type=shape_pair, nargs="+", action="extend", metavar="NAME=SHAPE",
        help="show the plan for inputs of these shapes, such as x=2x5x64",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from lightrnn.format import read
    from lightrnn.graph.check import check
    from lightrnn.ops import build

    file = read(args.model)
    for graph in file.graphs.values():
        check(graph, build)
    shapes = by_name(args.plan or (), "plan")
    plan = _plan(args.model, file, shapes) if shapes else None
    if args.json:
        say(json.dumps(_summary(file, shapes, plan), indent=2))
    else:
        say("\n".join(_lines(args.model, file, shapes, plan)))
    return 0


def _plan(model: str, file: ModelFile, shapes: Shapes) -> Plan:
    """The plan of the first graph with inputs of these names."""
    from lightrnn.model import load

    for name, graph in file.graphs.items():
        if set(graph.inputs) == set(shapes):
            return load(model).plan(shapes, name)
    known = "; ".join(f"{n}: {', '.join(g.inputs) or 'none'}" for n, g in file.graphs.items())
    raise UsageError(f"--plan needs a shape for each input of a graph ({known})")


def _summary(file: ModelFile, shapes: Shapes, plan: Plan | None) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "producer": file.producer,
        "metadata": dict(file.metadata),
        "text": file.text,
        "graphs": {name: _graph_summary(file, graph) for name, graph in file.graphs.items()},
    }
    if plan is not None:
        summary["plan"] = {"shapes": dict(shapes), **_plan_summary(plan)}
    return summary


def _graph_summary(file: ModelFile, graph: Graph) -> dict[str, Any]:
    return {
        "inputs": _tensors(graph.inputs),
        "outputs": _tensors(graph.outputs),
        "nodes": dict(Counter(node.op for one in _all(graph) for node in one.nodes).most_common()),
        "parameters": _parameters(graph),
        "weights": [
            {"name": name, "stored": stored, "shape": shape}
            for name, stored, shape in _weights(file, graph)
        ],
        "states": dict(graph.states),
    }


def _tensors(types: Mapping[str, TensorType]) -> list[dict[str, Any]]:
    return [{"name": n, "dtype": t.dtype.name, "shape": t.shape} for n, t in types.items()]


def _parameters(graph: Graph) -> int:
    """Numbers that were trained: the elements of all floating-point constants."""
    constants = (array for one in _all(graph) for array in one.constants.values())
    return sum(array.size for array in constants if array.dtype.kind == "f")


def _weights(file: ModelFile, graph: Graph) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, way of storing and shape of the floating-point constants of two or more axes."""
    for one in _all(graph):
        for name, array in one.constants.items():
            if array.dtype.kind == "f" and array.ndim >= 2:
                yield name, file.encodings.get(name, array.dtype.name), array.shape


def _all(graph: Graph) -> Iterator[Graph]:
    """A graph and those that its nodes hold."""
    from lightrnn.graph import Graph

    yield graph
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, Graph):
                yield from _all(value)


def _plan_summary(plan: Plan) -> dict[str, Any]:
    instructions = [i for i in plan.instructions if i.kernel]
    return {
        "instructions": [{"kernel": i.kernel, "node": str(i.node)} for i in instructions],
        "native_calls": plan.native_calls,
        "host_steps": [str(node) for node in plan.host_steps],
        "arena_bytes": plan.arena_bytes,
        "packed_bytes": plan.packed_bytes,
    }


def _lines(model: str, file: ModelFile, shapes: Shapes, plan: Plan | None) -> Iterator[str]:
    for name, graph in file.graphs.items():
        yield f"graph {name}"
        yield from _type_lines("input", graph.inputs)
        yield from _type_lines("output", graph.outputs)
        counts = Counter(node.op for one in _all(graph) for node in one.nodes).most_common()
        yield f"  nodes       {', '.join(f'{n} {op}' for op, n in counts) or 'none'}"
        yield f"  parameters  {_parameters(graph):,}"
        for weight, stored, shape in _weights(file, graph):
            yield f"  weight      {weight}: {stored}[{', '.join(map(str, shape))}]"
        for state, source in graph.states.items():
            yield f"  state       {state} is {source} of the step before"
    yield from _text_lines(model, file)
    for key, value in {"producer": file.producer, **file.metadata}.items():
        yield f"{key}: {value}"
    if plan is not None:
        sizes = (f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
        yield f"plan for {' '.join(sizes)}"
        yield from str(plan).splitlines()


def _type_lines(what: str, types: Mapping[str, TensorType]) -> Iterator[str]:
    for name, kind in types.items():
        yield f"  {what:<10}  {name}: {kind}"


def _text_lines(model: str, file: ModelFile) -> Iterator[str]:
    """The text task in a few words, or why it is not usable."""
    from lightrnn.errors import TextError
    from lightrnn.model import load
    from lightrnn.text import parse_task

    if file.text is None:
        return
    try:
        yield f"text: {parse_task(load(model))}"
    except TextError as error:
        yield f"text: not usable: {error}"
