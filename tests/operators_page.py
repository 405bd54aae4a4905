"""The page of the docs about operators: kernels, ONNX's node tests, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from textwrap import fill
from typing import Any

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import BOOL, DTYPES, OPSET, Array, Node, TensorType
from lightrnn.ops import REGISTRY, Case, Operator, build
from lightrnn.ops.lowering import Operand, Ref
from lightrnn.ops.recurrent_lowering import Layer
from lightrnn.record import replace
from tests.onnx_suite import PASSED, REFUSED, WRONG, Row, is_ours

PAGE = """\
# Operators

<!-- Written by `python -m tests.onnx_suite --markdown docs/operators.md`. -->

lightrnn's operators are ONNX's at opset {opset}; models of opsets from 7 on are lifted to it.
Every operator has NumPy semantics. Those below with a kernel run in the compiled library for the
element types named, and on NumPy for others.

{kernels}
## ONNX's node tests

{tables}
## What is refused

A model that needs what lightrnn does not compute is refused while it is converted, by a message
that names every such node and why.

- **Element types.** Tensors are float32, float64, float16, bool, or signed or unsigned integers of
  8 to 64 bits. bfloat16 is computed in float32, and only a Cast to bfloat16 rounds to it: inputs
  and outputs that the source model has in bfloat16 are float32 here. Tensors of float8, float6 and
  float4 types are float32, and those of 4 and 2-bit integers int8 or uint8, that hold the same
  values; they can be moved, cast, quantized to and dequantized. Other operators on them, strings
  and complex numbers are refused.
- **Sequences, optional values, maps and sparse tensors** are refused as inputs and outputs of a
  model. Inside one, a sequence made by SplitToSequence or SequenceConstruct can be read at constant
  positions and joined, and so can one to which each iteration of a Loop appends one tensor.
- **Control flow.** If, Loop and Scan are computed; a Scan of opset 8, over batches, is refused.
- **Training.** Dropout and BatchNormalization with training_mode are refused.
- **Operators** that are neither computed nor defined by ONNX through others, and those of other
  domains than ONNX's own.
"""


def page(rows: Sequence[Row]) -> str:
    """The page. rows: what became of the node tests."""
    return PAGE.format(opset=OPSET, kernels=kernels(), tables=tables(rows))


def kernels() -> str:
    """A table of the operators and the element types that their kernels take."""
    return _table(
        ["operator", "kernel for"], [[name, _types(REGISTRY[name])] for name in sorted(REGISTRY)]
    )


def tables(rows: Sequence[Row]) -> str:
    """What became of the node tests: totals, operators, refusals."""
    import onnx
    import onnxruntime

    computed = [row for row in rows if is_ours(row.operator)]
    written = [row for row in rows if row not in computed and row.count(PASSED)]
    others = [row for row in rows if row not in computed and row not in written]
    intro = (
        f"The node tests of onnx {onnx.__version__}, converted and run with kernels and on NumPy; "
        f"beside them onnxruntime {onnxruntime.__version__} on the same cases. Cases in which ONNX "
        "writes an operator out by others count as that operator's. Element types and shapes must "
        "be those stored, but tensors of types that NumPy lacks are compared in the type that "
        "carries their values here."
    )
    names = ", ".join(f"{row.operator} ({len(row.ours)})" for row in others)
    parts = [
        fill(intro, 100) + "\n",
        _results([*computed, _total("total", computed)]),
        "Operators that are not in the registry but written out by others, as ONNX defines them:\n",
        _results([*written, _total("total", written)]),
        "Refused cases of the operators above, by reason:\n",
        _refusals([*computed, *written]),
        fill(f"Refused by name, with the number of cases: {names}.", 100) + "\n",
        _summary(rows, computed),
    ]
    return "\n".join(parts)


def _summary(rows: Sequence[Row], computed: Sequence[Row]) -> str:
    whole, ours = _total("", rows), _total("", computed)
    share = 100 * ours.count(REFUSED) / len(ours.ours)
    return (
        f"Of {len(ours.ours)} cases of operators that lightrnn computes {share:.1f}% are refused. "
        f"Of all {len(whole.ours)} cases {whole.count(PASSED)} pass and {whole.count(REFUSED)} are "
        f"refused; **wrong: {whole.count(WRONG)}**.\n"
    )


def _results(rows: Sequence[Row]) -> str:
    head = ["operator", "cases", "passed", "refused", "wrong", "onnxruntime passes"]
    return _table(head, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    counts = [len(row.ours), *(row.count(v) for v in (PASSED, REFUSED, WRONG))]
    theirs = sum(o.verdict == PASSED for o in row.onnxruntime)
    return [row.operator, *map(str, counts), str(theirs)]


def _total(name: str, rows: Sequence[Row]) -> Row:
    ours, theirs = ([o for row in rows for o in getattr(row, k)] for k in ("ours", "onnxruntime"))
    return Row(name, tuple(ours), tuple(theirs))


def _refusals(rows: Sequence[Row]) -> str:
    reasons: dict[str, Counter[str]] = {}
    for row in rows:
        for limit, count in row.limits.items():
            reasons.setdefault(limit or "not documented", Counter())[row.operator] += count
    lines = []
    for limit, found in sorted(reasons.items()):
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(found.items()))
        lines.append([limit, str(found.total()), listed])
    return _table(["reason", "cases", "operators"], lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _types(cls: type[Operator]) -> str:
    """The element types for which an operator lowers: of its cases, and of some cases recast."""
    lowering = [case for case in cls.cases(np.random.default_rng(0)) if _lowers(cls, case)]
    found = {_data(case) for case in lowering}
    for case in lowering[:3]:
        found |= {d for d in DTYPES.values() if d not in found and _lowers(cls, _recast(case, d))}
    if len(found) == len(DTYPES):
        return "every type"
    return ", ".join(sorted(d.name for d in found)) or "–"


def _data(case: Case) -> np.dtype[Any]:
    """The element type of a case's first input that is not a condition."""
    types = [a.dtype for a in case.inputs if a is not None]
    return next((d for d in types if d != BOOL), types[0])


def _recast(case: Case, dtype: np.dtype[Any]) -> Case:
    data = _data(case)
    inputs = (a.astype(dtype) if a is not None and a.dtype == data else a for a in case.inputs)
    with np.errstate(all="ignore"):
        return replace(case, inputs=tuple(inputs))


def _choices(case: Case) -> Iterator[tuple[int, ...]]:
    """Which inputs to know while lowering: none, the integers but the first, all but the first."""
    present = [k for k, a in enumerate(case.inputs) if a is not None][1:]
    yield ()
    yield tuple(k for k in present if case.inputs[k].dtype.kind in "iu")  # type: ignore[union-attr]
    yield tuple(present)


def _lowers(cls: type[Operator], case: Case) -> bool:
    return any(_lowers_knowing(cls, case, constants) for constants in _choices(case))


def _lowers_knowing(cls: type[Operator], case: Case, constants: Sequence[int]) -> bool:
    inputs = tuple(f"in{k}" if a is not None else "" for k, a in enumerate(case.inputs))
    op = build(Node(cls.name, inputs, case.outputs or cls.outputs.names, case.attrs))
    types = [
        None if a is None else TensorType(a.dtype, a.shape, a if k in constants else None)
        for k, a in enumerate(case.inputs)
    ]
    try:
        outputs = op.infer(types)
    except GraphError:
        return False
    if not all(t.is_concrete for t in outputs):
        return False
    given = [None if t is None else Operand(inputs[k], t, Ref(0)) for k, t in enumerate(types)]
    asked = case.outputs or cls.outputs.names * len(outputs)
    made = [
        Operand(f"out{k}", t, Ref(0)) if k < len(asked) and asked[k] else None
        for k, t in enumerate(outputs)
    ]
    return op.lower(Ignored(), given, made)


class Ignored:
    """An emitter that drops what it is given."""

    target = "cpu"
    level = ""

    def call(self, kernel: str, *args: Any, work: int) -> None:
        pass

    def layer(self, layer: Layer) -> None:
        pass

    def side_by_side(self, parts: Sequence[Callable[[], None]]) -> None:
        pass

    def scratch(self, nbytes: int) -> Ref:
        return Ref(0)

    def constant(self, array: Array) -> Ref:
        return Ref(0)

    def packed(
        self, sources: tuple[Operand, ...], layout: Hashable, pack: Callable[..., Array]
    ) -> Ref:
        return Ref(0)

    def view(self, output: Operand, source: Operand, offset: int = 0) -> bool:
        return True
