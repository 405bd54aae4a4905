"""The rules by which a graph is taken for a stream, held against the operators themselves.

Every operator's cases are tried with every axis of their inputs as time. Where the rules see no
problem, the operator is run on the whole and on two pieces, and the pieces must give the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from lightrnn.engine.interpret import evaluate
from lightrnn.errors import LightRNNError
from lightrnn.graph import Array, Graph, Node, TensorType
from lightrnn.ops import REGISTRY, Case
from lightrnn.streaming.marks import RULES, Kind, Mark, Span
from lightrnn.streaming.walk import infer, walk

RECURRENT = ("RNN", "GRU", "LSTM")
NEVER = {"ConstantOfShape", "DynamicQuantizeLinear"}
"""Operators whose own inputs are never along time, or that take none so."""
LOCAL = sorted(set(RULES) - set(RECURRENT) - NEVER)


@dataclass(frozen=True)
class Trial:
    """A node, and the axis of some of its inputs that is time."""

    graph: Graph
    feeds: dict[str, Array]
    starts: dict[str, Mark]
    steps: int


def more_cases(op: str, rng: np.random.Generator) -> Iterator[Case]:
    """Cases in which tensors agree in more sizes than in the operators' own."""
    cube = rng.standard_normal((6, 6, 6)).astype(np.float32)
    if op == "Concat":
        yield from (Case(f"axis {k}", (cube, cube[::-1]), {"axis": k}) for k in range(3))
    if op == "MatMul":
        yield Case("cubes", (cube, cube[::-1]))
        yield Case("cube and matrix", (cube, cube[0]))
        yield Case("vector and cube", (cube[0, 0], cube))
    if op == "Einsum":
        for equation in ("ij,jk->ik", "ij,kj->ik", "ij,ij->ij", "ij,ji->ij", "ii,ij->ij"):
            yield Case(equation, (cube[0], cube[1]), {"equation": equation})
    if op == "Gemm":
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            yield Case(f"square {a}{b}", (*cube[:3],), {"transA": a, "transB": b})


def trials(op: str, case: Case) -> Iterator[Trial]:
    """Each axis of each input as time: alone, with one of its size elsewhere, with all in line."""
    axes = [(k, a) for k, x in enumerate(case.inputs) if x is not None for a in range(x.ndim)]
    sizes = {(k, a): x.shape[a] for k, a in axes if (x := case.inputs[k]) is not None}
    right = {(k, a): a - max(b for j, b in axes if j == k) for k, a in axes}
    chosen = dict.fromkeys(
        tuple(sorted(marked))
        for one in axes
        for marked in (
            {one},
            *({one, other} for other in axes if other[0] != one[0] and sizes[other] == sizes[one]),
            {a for a in axes if right[a] == right[one] and sizes[a] == sizes[one]},
        )
    )
    for marked in chosen:
        if sizes[marked[0]] > 1:
            yield trial(op, case, dict(marked), sizes[marked[0]])


def trial(op: str, case: Case, marked: dict[int, int], steps: int) -> Trial:
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(case.inputs)]
    arrays = {n: a for n, a in zip(names, case.inputs, strict=True) if a is not None}
    slots = REGISTRY[op].outputs.names
    outputs = tuple(f"o{k}" for k in range(len(slots)))
    if REGISTRY[op].outputs.variadic:
        outputs = tuple(f"o{k}" for k in range(number_of_outputs(op, case)))
    if case.outputs:
        outputs = tuple(f"o{slots.index(o)}" if o in case.outputs else "" for o in slots)
    node = Node(op, tuple(names), outputs, case.attrs, "node")
    inputs = {names[k] for k in marked}
    graph = Graph(
        {n: TensorType(arrays[n].dtype, arrays[n].shape) for n in sorted(inputs)},
        {o: TensorType(np.dtype(np.float32), None) for o in outputs if o},
        (node,),
        {n: a for n, a in arrays.items() if n not in inputs},
    )
    feeds = {n: arrays[n] for n in graph.inputs}
    return Trial(graph, feeds, {names[k]: Span(axis) for k, axis in marked.items()}, steps)


def number_of_outputs(op: str, case: Case) -> int:
    sizes = case.inputs[1] if len(case.inputs) > 1 else None
    return int(case.attrs.get("num_outputs", 1)) if sizes is None else len(sizes)  # type: ignore[arg-type]


def pieces_of(t: Trial, cut: int) -> list[dict[str, Array]]:
    """Feeds of the steps before and from `cut` on."""
    parts: list[dict[str, Array]] = [{}, {}]
    for name, array in t.feeds.items():
        mark = t.starts[name]
        assert isinstance(mark, Span)
        for part, piece in zip(parts, np.split(array, [cut], mark.axis), strict=True):
            part[name] = piece
    return parts


def joined(span: Span, pieces: Sequence[Array]) -> Array:
    """The whole of pieces whose time is there."""
    before, after = pieces[0].shape[: span.axis], pieces[0].shape[span.axis + 1 :]
    split = []
    for piece in pieces:
        steps = piece.shape[span.axis] // (span.outer * span.inner)
        split.append(piece.reshape(*before, span.outer, steps, span.inner, *after))
    whole = np.concatenate(split, span.axis + 1)
    size = sum(piece.shape[span.axis] for piece in pieces)
    return whole.reshape(*before, size, *after)


def agrees(t: Trial) -> bool | None:
    """Whether pieces give the whole; None where the rules say no or pieces cannot be made."""
    shapes = {n: a.shape for n, a in t.feeds.items()}
    try:
        tensors, problems = walk(t.graph, infer(t.graph, shapes), t.starts, t.steps)
    except LightRNNError:
        return None
    marks = {name: tensors[name].mark for name in t.graph.outputs}
    if problems or not any(isinstance(m, Span) or m is Kind.LAST for m in marks.values()):
        return None
    try:
        results = [evaluate(t.graph, feeds) for feeds in pieces_of(t, max(t.steps // 3, 1))]
    except (LightRNNError, ValueError):
        return None  # the case's own numbers fit the whole alone, which two sizes would have shown
    whole = evaluate(t.graph, t.feeds)
    for name, mark in marks.items():
        found = [r[name] for r in results]
        value = joined(mark, found) if isinstance(mark, Span) else found[-1]
        if value.shape != whole[name].shape:
            return None  # as above
        np.testing.assert_allclose(value, whole[name], rtol=1e-5, atol=1e-5, err_msg=name)
    return True


@pytest.mark.parametrize("op", LOCAL)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_the_rules_let_through_is_local(op: str) -> None:
    counts: Counter[bool | None] = Counter()
    rng = np.random.default_rng(3)
    for case in (*REGISTRY[op].cases(rng), *more_cases(op, rng)):
        for t in trials(op, case):
            try:
                counts[agrees(t)] += 1
            except AssertionError as error:
                raise AssertionError(f"{case.name}, time at {t.starts}: {error}") from None
    assert counts[True], f"no case of {op} was let through: its rule was not tried"


def test_results_that_nobody_reads_do_not_matter() -> None:
    node = Node("TopK", ("x", "k"), ("", "places"), {"axis": 1}, "node")
    graph = Graph(
        {"x": TensorType(np.dtype(np.float32), ("T", 4))},
        {"places": TensorType(np.dtype(np.int64), None)},
        (node,),
        {"k": np.array([2])},
    )
    tensors, problems = walk(graph, infer(graph, {"x": (5, 4)}), {"x": Span(0)}, 5)
    assert not problems
    assert tensors["places"].mark == Span(0)
