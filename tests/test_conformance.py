"""Every case of every operator: types, NumPy semantics against oracles, kernels against semantics.

The tolerance is the operator's `rtol` times the largest finite element of the expected result;
element types coarser than float32 get twice their own precision. All else must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx.helper
import pytest

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import Array, Node, Shape, TensorType
from lightrnn.ops import REGISTRY, Case, Operator, build
from lightrnn.ops.arguments import data_type
from lightrnn.record import replace
from tests import known_failures
from tests.kernels import BACKENDS, run_lowered
from tests.onnx_oracles import RefusedError, onnxruntime_says, reference_says


def _cases(name: str) -> Iterator[Case]:
    try:
        yield from REGISTRY[name].cases(np.random.default_rng(7))
    except NotImplementedError:
        return


def _frozen(array: Array | None) -> Array | None:
    if array is None:
        return None
    copy: Array = array.copy()
    copy.setflags(write=False)
    return copy


CASES = {
    f"{name}-{case.name}": (name, replace(case, inputs=tuple(map(_frozen, case.inputs))))
    for name in sorted(REGISTRY)
    for case in _cases(name)
}
DATA_DEPENDENT = ("NonZero", "Compress", "Unique")
"""Operators whose output shape depends on values that need not be known."""
every_case = pytest.mark.parametrize("key", CASES)


def operator_of(key: str) -> tuple[Operator, Case]:
    name, case = CASES[key]
    inputs = tuple(f"in{k}" if a is not None else "" for k, a in enumerate(case.inputs))
    outputs = case.outputs or REGISTRY[name].outputs.names
    return build(Node(name, inputs, outputs, case.attrs, case.name)), case


def evaluated(op: Operator, case: Case) -> tuple[Array, ...]:
    """The operator's own results; at most as many as the case asks for."""
    outputs = op.evaluate(*case.inputs)
    return outputs[: len(case.outputs)] if case.outputs else outputs


def assert_agrees(found: Array, expected: Array, rtol: float) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    precision = max(rtol, 2 * float(np.finfo(expected.dtype).eps) * (expected.dtype.itemsize < 4))
    finite = np.abs(expected[np.isfinite(expected)]).astype(np.float64)
    scale = float(finite.max()) if finite.size else 0.0
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, expected, rtol=0, atol=precision * scale)


def assert_type(found: TensorType, expected: Array, sizes: dict[str, int]) -> None:
    """An inferred type says nothing that is untrue of a result."""
    assert found.dtype == expected.dtype
    if found.shape is None:
        return
    assert len(found.shape) == expected.ndim
    for d, size in zip(found.shape, expected.shape, strict=True):
        assert d is None or sizes.get(str(d), d) == size


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_cases_have_names_of_their_own(name: str) -> None:
    names = [case.name for case in _cases(name)]
    assert len(set(names)) == len(names)
    assert bool(names) == (name not in known_failures.WITHOUT_CASES)


@every_case
def test_inference_gives_what_evaluation_does(key: str) -> None:
    op, case = operator_of(key)
    types = [None if a is None else TensorType.of(a) for a in case.inputs]
    expected = op.evaluate(*case.inputs)
    found = op.infer(types)
    assert len(found) >= len(expected)
    for t, array in zip(found, expected, strict=False):
        assert t.is_concrete or op.name in DATA_DEPENDENT
        assert_type(t, array, {})


def _named(shape: tuple[int, ...]) -> Shape:
    return tuple(f"n{d}" for d in shape)


def _unknown(shape: tuple[int, ...]) -> Shape:
    return (None,) * len(shape)


def _without_rank(shape: tuple[int, ...]) -> None:
    return None


@every_case
def test_inference_from_less_says_nothing_untrue(key: str) -> None:
    op, case = operator_of(key)
    expected = op.evaluate(*case.inputs)
    for blur in (_named, _unknown, _without_rank):
        for values in (True, False):
            _check_blurred(op, case, expected, blur, values)


def _check_blurred(
    op: Operator,
    case: Case,
    expected: Sequence[Array],
    blur: Callable[[tuple[int, ...]], Shape | None],
    values: bool,
) -> None:
    """Inference with sizes unknown; with the values of integer inputs but the first, or without."""
    types: list[TensorType | None] = []
    sizes: dict[str, int] = {}
    for k, a in enumerate(case.inputs):
        if a is None:
            types.append(None)
        elif values and k and a.dtype.kind in "iub":
            types.append(TensorType.of(a))
        else:
            sizes.update((f"n{d}", d) for d in a.shape)
            types.append(TensorType(a.dtype, blur(a.shape)))
    try:
        found = op.infer(types)
    except UnsupportedError:
        assert op.name == "Split"  # the number of its outputs is not known
        return
    for t, array in zip(found, expected, strict=False):
        assert_type(t, array, sizes)


@every_case
def test_semantics_agree_with_an_oracle(key: str) -> None:
    op, case = operator_of(key)
    expected = evaluated(op, case)
    attrs: dict[str, Any] = {n: _onnx_attribute(op, n, v) for n, v in case.attrs.items()}
    asked = replace(case, attrs={k: v for k, v in attrs.items() if v is not None})
    try:
        try:
            found = onnxruntime_says(op.name, asked, expected)
        except RefusedError:
            found = reference_says(op.name, asked, expected)
    except RefusedError as refused:
        if key not in known_failures.REFUSED:
            pytest.fail(str(refused))
        return
    assert key not in known_failures.REFUSED
    if key in known_failures.WRONG:
        with pytest.raises(AssertionError):
            _assert_all(expected, found, op.rtol)
        return
    _assert_all(expected, found, op.rtol)


def _onnx_attribute(op: Operator, name: str, value: object) -> object:
    """An attribute as ONNX has it; None for one that it has not."""
    if op.name == "ConstantOfShape":
        dtype = data_type(getattr(op, "dtype", 1))
        if name != "value":
            return None
        return onnx.helper.make_tensor(
            "value", onnx.helper.np_dtype_to_tensor_dtype(dtype), [1], np.array([value], dtype)
        )
    return value


def _assert_all(found: Sequence[Array], expected: Sequence[Array], rtol: float) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert_agrees(a, np.asarray(b), rtol)


def _constants(op: Operator, case: Case) -> list[tuple[int, ...]]:
    """Which inputs to know while lowering: the fewest that fix the output's shape, and the most."""
    present = [k for k, a in enumerate(case.inputs) if a is not None]
    lists = tuple(k for k in present[1:] if case.inputs[k].dtype.kind in "iu")  # type: ignore[union-attr]
    choices = [(), lists, tuple(present[1:])]
    return [c for c in dict.fromkeys(choices) if _is_fixed(op, case, c)]


def _is_fixed(op: Operator, case: Case, constants: tuple[int, ...]) -> bool:
    types = [
        None if a is None else TensorType(a.dtype, a.shape, a if k in constants else None)
        for k, a in enumerate(case.inputs)
    ]
    try:
        return all(t.is_concrete for t in op.infer(types))
    except GraphError:
        return False


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@every_case
def test_kernels_agree_with_semantics(key: str, backend: str) -> None:
    op, case = operator_of(key)
    expected = op.evaluate(*case.inputs)
    for constants in _constants(op, case):
        with np.errstate(all="ignore"):
            found = run_lowered(op, case.inputs, backend, constants=constants, asked=case.outputs)
        if found is not None:
            for a, b in zip(found, expected, strict=False):
                if a is not None:
                    assert_agrees(a, b, op.rtol)


@pytest.mark.native
@every_case
def test_threads_change_no_bit(key: str) -> None:
    op, case = operator_of(key)
    for constants in _constants(op, case)[:1]:
        alone = run_lowered(op, case.inputs, "native", constants=constants, asked=case.outputs)
        if alone is None or _has_barrier(op):
            continue
        shared = run_lowered(
            op, case.inputs, "native", nth=3, constants=constants, asked=case.outputs
        )
        assert shared is not None
        for a, b in zip(shared, alone, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert a.tobytes() == b.tobytes()


def _has_barrier(op: Operator) -> bool:
    """Recurrent kernels wait for each other, so their threads cannot run one after another."""
    return op.name in ("RNN", "LSTM", "GRU")
