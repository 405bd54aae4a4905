"""Functions of two forms: what `simd` and other modules make their vectors and places of.

Called from Python such a function is its own body, on NumPy arrays of 16 elements and on spans;
compiled by Numba it is a handful of LLVM instructions on values that stay in registers. `F16` holds
float32 lanes, `I16` int32 lanes, `M16` truth values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    lower_builtin,
    models,
    register_jitable,
    register_model,
    type_callable,
)

LANES = 16
WIDE_REGISTERS = os.environ.get("LIGHTRNN_TARGET", "v3") != "v3"
"""Whether the level that is being compiled has registers of 512 bits."""
inlined = register_jitable
"""Marks a helper that kernels call; it stays a plain function for the interpreted run."""

_WORD = ir.IntType(32)
VF, VI, VM = (ir.VectorType(t, LANES) for t in (ir.FloatType(), _WORD, ir.IntType(1)))
"""LLVM's types of the lanes."""


class _Vector(types.Type):  # type: ignore[misc]
    def __init__(self, name: str, value: ir.Type) -> None:
        self.value = value
        super().__init__(name=name)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: _Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.value)


F16, I16, M16 = _Vector("F16", VF), _Vector("I16", VI), _Vector("M16", VM)
POINTERS = {
    "f32": types.CPointer(types.float32),
    "f64": types.CPointer(types.float64),
    "i64": types.CPointer(types.int64),
    "i32": types.CPointer(types.int32),
    "u16": types.CPointer(types.uint16),
    "u8": types.CPointer(types.uint8),
}

Twin = TypeVar("Twin", bound=Callable[..., Any])


def compiled(typer: Callable[..., Any], code: Callable[..., Any]) -> Callable[[Twin], Twin]:
    """Give a Python function its compiled form.

    typer: Numba argument types to the result type, or None where they do not fit.
    code: (context, builder, signature, LLVM values) to an LLVM value.
    """

    def wrap(twin: Twin) -> Twin:
        type_callable(twin)(lambda context: typer)
        lower_builtin(twin, types.VarArg(types.Any))(code)
        return twin

    return wrap


OUTLINED: dict[str, tuple[Callable[..., Any], Any]] = {}
"""Functions compiled once and called, by symbol: the function and its Numba signature."""


def outlined(result: Any, *parameters: Any) -> Callable[[Twin], Twin]:
    """Compile a helper once, as a function that kernels call, instead of into each of them.

    result, parameters: Numba types.
    """

    def wrap(twin: Twin) -> Twin:
        symbol = f"fn_{twin.__name__}"
        OUTLINED[symbol] = (twin, result(*parameters))

        def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
            values = [
                context.cast(b, v, given, wanted)
                for v, given, wanted in zip(args, sig.args, parameters, strict=True)
            ]
            kind = ir.FunctionType(
                ir.VoidType() if result == types.void else context.get_value_type(result),
                [v.type for v in values],
            )
            value = b.call(cgutils.get_or_insert_function(b.module, kind, symbol), values)
            return context.get_dummy_value() if result == types.void else value

        wanted = (
            int if p == types.int64 else float if p == types.float64 else p for p in parameters
        )
        return compiled(signature(result, *wanted), code)(twin)

    return wrap


def signature(result: Any, *wanted: Any) -> Callable[..., Any]:
    """A typer for exactly these argument types; `int` stands for any integer."""

    def fits(given: Any, want: Any) -> bool:
        if want is int:
            return isinstance(given, types.Integer)
        if want is float:
            return isinstance(given, types.Number)
        if want == "pointer":
            return isinstance(given, types.CPointer)
        return bool(given == want)

    def check(*given: Any) -> Any:
        if len(given) == len(wanted) and all(map(fits, given, wanted)):
            return result(*given) if callable(result) else result
        return None

    names = [f"a{k}" for k in range(len(wanted))]
    scope = {"check": check}
    return eval(f"lambda {', '.join(names)}: check({', '.join(names)})", scope)


def in_all_lanes(b: Any, ty: ir.VectorType, value: Any) -> Any:
    one = b.insert_element(ir.Constant(ty, ir.Undefined), value, ir.Constant(_WORD, 0))
    zeros = ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES)
    return b.shuffle_vector(one, ir.Constant(ty, ir.Undefined), zeros)


def call_llvm(b: Any, name: str, result: ir.Type, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(result, [a.type for a in args])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), list(args))


def index_of(context: Any, b: Any, sig: Any, args: Any, k: int) -> Any:
    return context.cast(b, args[k], sig.args[k], types.int64)


def place_of(context: Any, b: Any, sig: Any, args: Any, ty: ir.Type) -> Any:
    """Pointer to `ty` at args[0] + args[1] elements."""
    return b.bitcast(b.gep(args[0], [index_of(context, b, sig, args, 1)]), ty.as_pointer())


def lanes_before(b: Any, count: Any) -> Any:
    """Mask whose first `count` lanes are set."""
    lanes = ir.Constant(ir.VectorType(_WORD, LANES), list(range(LANES)))
    return b.icmp_signed("<", lanes, in_all_lanes(b, VI, b.trunc(count, _WORD)))
