"""ONNX's own node tests, run through the converter: what passes, what is refused and why.

`python -m tests.onnx_suite` prints the tables; with `--markdown FILE` it writes the docs' page.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import io
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from lightrnn_converters import convert_onnx
from lightrnn_converters.reader import Reader
from onnx import helper, numpy_helper

from lightrnn.engine.interpret import evaluate
from lightrnn.errors import LightRNNError
from lightrnn.graph import Array
from lightrnn.model import Model
from lightrnn.ops import REGISTRY
from lightrnn.ops.narrow import NARROW

TestCase: TypeAlias = Any
"""onnx.backend.test.case.TestCase: name, model, data_sets, rtol, atol."""

PASSED, REFUSED, WRONG = "passed", "refused", "wrong"

BFLOAT16_RTOL = 2**-6
"""What onnx's own runner allows bfloat16 results."""

LIMITS: Mapping[str, str] = {
    r"operator '(\w+)' is not supported": "operator {}",
    r"operators of domain '([\w.]+)'": "domain {}",
    r"element type (\w+) is not supported": "element type {}",
    r"(sequence|optional|sparse|map) values are not supported": "{} values",
    r"training_mode": "training",
    r"control flow": "control flow",
    r"has opset (\d+), newer than": "opset {}",
}
"""What the docs say is refused: patterns of messages, and what to call it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case. reason: the refusal's message, or what is wrong."""

    verdict: str
    reason: str = ""

    @property
    def limit(self) -> str:
        """The documented limit that a refusal names; "" where it names none."""
        for pattern, name in LIMITS.items():
            found = re.search(pattern, self.reason)
            if found is not None:
                return name.format(*found.groups())
        return ""


@functools.cache
def cases() -> tuple[TestCase, ...]:
    """The node tests of the installed onnx package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return tuple(load_model_tests(kind="node"))


@functools.cache
def operators() -> dict[str, str]:
    """The operator that each case tests, by the case's name; cases written out test the same."""
    nodes = {case.name: case.model.graph.node for case in cases()}
    names = (re.sub(r"_expanded(_ver\d+)?$", "", case.name) for case in cases())
    return {
        case.name: "+".join(f"{n.domain}.{n.op_type}".strip(".") for n in nodes[name])
        for case, name in zip(cases(), names, strict=True)
    }


def is_ours(operator: str) -> bool:
    """Whether lightrnn computes an operator, or its converter reads it."""
    return operator in REGISTRY or hasattr(Reader, f"_read_{operator.lower()}")


def by_lightrnn(case: TestCase) -> Outcome:
    """Convert a case and run it, in the kernel library and on NumPy semantics."""
    try:
        model = _converted(case.model)
        for inputs, outputs in case.data_sets:
            feeds = {s.name: _carried(a) for s, a in zip(_inputs(case), inputs, strict=True)}
            for found in (model.run(feeds), _on_numpy(model, feeds)):
                if reason := _difference(list(found.values()), outputs, case):
                    return Outcome(WRONG, reason)
    except LightRNNError as error:
        return Outcome(REFUSED, str(error))
    except Exception as error:
        return Outcome(WRONG, f"{type(error).__name__}: {error}")
    return Outcome(PASSED)


def _inputs(case: TestCase) -> Iterator[Any]:
    initialized = {i.name for i in case.model.graph.initializer}
    return (i for i in case.model.graph.input if i.name not in initialized)


def _converted(proto: onnx.ModelProto) -> Model:
    file = io.BytesIO()
    convert_onnx(proto, file, verify=False)
    return Model(file.getvalue(), threads=1)


def _on_numpy(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return evaluate(model.graph(model.graphs[0]), feeds)


def _plain(value: Any) -> Any:
    """A case's value as an array; lists and None stay."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _narrow(array: Array) -> Any:
    """The element type of an array, where it is one that NumPy lacks."""
    return NARROW.get(helper.np_dtype_to_tensor_dtype(array.dtype))


def _carried(value: Any) -> Any:
    """A case's value, in the element type that carries it here."""
    array = _plain(value)
    narrow = _narrow(array) if isinstance(array, np.ndarray) else None
    return array if narrow is None else array.astype(narrow.carrier)


def _difference(found: Sequence[Any], expected: Sequence[Any], case: TestCase) -> str:
    """How results differ from those expected; "" if they do not."""
    if len(found) != len(expected):
        return f"{len(found)} outputs, expected {len(expected)}"
    for k, (result, value) in enumerate(zip(found, expected, strict=True)):
        if isinstance(value, list):
            reason = _difference(result, value, case)
        else:
            reason = _array_difference(_carried(result), _plain(value), case)
        if reason:
            return f"output {k} {reason}"
    return ""


def _array_difference(a: Array, expected: Array, case: TestCase) -> str:
    b = _carried(expected)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"is {a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}"
    if a.dtype.kind != "f":
        return "" if np.array_equal(a, b) else "differs"
    rtol = max(case.rtol, BFLOAT16_RTOL) if _narrow(expected) is NARROW[16] else case.rtol
    with np.errstate(all="ignore"):
        if np.allclose(a, b, rtol, case.atol, equal_nan=True):
            return ""
        return f"differs by up to {np.nanmax(np.abs(a - b)):.2g}"


def by_onnxruntime(case: TestCase) -> Outcome:
    """Run a case in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
        for inputs, outputs in case.data_sets:
            if reason := _difference(_onnxruntime_says(session, case, inputs), outputs, case):
                return Outcome(WRONG, reason)
    except Exception as error:  # onnxruntime's classes are not public
        return Outcome(REFUSED, str(error))
    return Outcome(PASSED)


def _onnxruntime_says(session: Any, case: TestCase, inputs: Sequence[Any]) -> list[Any]:
    """The session's outputs. Element types that NumPy lacks go in and come out as packed bytes."""
    from onnxruntime import OrtValue

    pairs = [(info, _plain(a)) for info, a in zip(_inputs(case), inputs, strict=True)]
    used = [i.type.tensor_type.elem_type for i in (*_inputs(case), *case.model.graph.output)]
    names = [o.name for o in session.get_outputs()]
    if not any(kind in NARROW for kind in used):
        return list(session.run(names, {info.name: array for info, array in pairs}))
    feeds = {}
    for info, array in pairs:
        kind = info.type.tensor_type.elem_type
        feeds[info.name] = OrtValue.ortvalue_from_shape_and_type(array.shape, kind)
        _memory(feeds[info.name])[:] = numpy_helper.from_array(array).raw_data
    found = session.run_with_ort_values(names, feeds)
    return [
        helper.make_tensor("", o.element_type(), o.shape(), bytes(_memory(o)), raw=True)
        for o in found
    ]


def _memory(value: Any) -> Any:
    size: int = value.tensor_size_in_bytes()
    return (ctypes.c_uint8 * size).from_address(value.data_ptr())


@dataclass(frozen=True)
class Row:
    """What became of the cases of one operator."""

    operator: str
    ours: tuple[Outcome, ...]
    onnxruntime: tuple[Outcome, ...]

    def count(self, verdict: str) -> int:
        return sum(o.verdict == verdict for o in self.ours)

    @property
    def limits(self) -> Counter[str]:
        """How many cases each limit refuses; "" for refusals that name none."""
        return Counter(o.limit for o in self.ours if o.verdict == REFUSED)


def run_all() -> list[Row]:
    """Every case in both engines, by operator."""
    found: dict[str, list[tuple[Outcome, Outcome]]] = {}
    for case in cases():
        pair = by_lightrnn(case), by_onnxruntime(case)
        found.setdefault(operators()[case.name], []).append(pair)
    return [Row(name, *zip(*pairs, strict=True)) for name, pairs in sorted(found.items())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write the page; 1 if a result is wrong or a refusal not documented."""
    from tests.operators_page import page, tables

    parser = argparse.ArgumentParser(prog="python -m tests.onnx_suite", description=__doc__)
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the page to FILE")
    options = parser.parse_args(arguments)
    rows = run_all()
    if options.markdown:
        options.markdown.write_text(page(rows))
    else:
        print(tables(rows))
    wrong = sum(row.count(WRONG) for row in rows)
    unnamed = sum(row.limits[""] for row in rows)
    print(f"wrong: {wrong}, refused without a documented reason: {unnamed}", file=sys.stderr)
    return 1 if wrong or unnamed else 0


if __name__ == "__main__":
    sys.exit(main())
