"""The compiled forms of `cuda.kernels.simt`, for numba-cuda. Importing this module registers them.

What PTX has no LLVM instruction for is inline assembly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import lower_builtin, register_jitable, type_callable

from lightrnn.cuda.kernels import simt

_F32, _F64, _I8, _I16 = ir.FloatType(), ir.DoubleType(), ir.IntType(8), ir.IntType(16)
_I32, _I64, _I1 = ir.IntType(32), ir.IntType(64), ir.IntType(1)
_SHARED = 3
"""The address space of shared memory."""

POINTERS = {
    "f32": types.CPointer(types.float32),
    "f64": types.CPointer(types.float64),
    "i64": types.CPointer(types.int64),
    "i32": types.CPointer(types.int32),
    "u16": types.CPointer(types.uint16),
    "u8": types.CPointer(types.uint8),
}
_ELEMENTS = {"f32": _F32, "f64": _F64, "i64": _I64, "i32": _I32, "u16": _I16, "u8": _I8}

Code = Callable[[Any, Any, Any, Any], Any]


def register(twin: Callable[..., Any], result: Any, wanted: Sequence[Any], code: Code) -> None:
    """Give a function of `simt` its compiled form.

    result: a Numba type, or a function from argument types to it. wanted: for each argument a
    Numba type, `int` for any integer, `float` for any number, or "pointer".
    code: (context, builder, signature, LLVM values) to an LLVM value.
    """

    def fits(given: Any, want: Any) -> bool:
        if want is int:
            return isinstance(given, types.Integer | types.Boolean)
        if want is float:
            return isinstance(given, types.Number | types.Boolean)
        if want == "pointer":
            return isinstance(given, types.CPointer)
        return bool(given == want)

    def check(*given: Any) -> Any:
        if len(given) == len(wanted) and all(map(fits, given, wanted)):
            return result if isinstance(result, types.Type) else result(*given)
        return None

    names = ", ".join("abcdefgh"[: len(wanted)])
    typer = eval(f"lambda {names}: check({names})", {"check": check})
    type_callable(twin)(lambda context: typer)
    lower_builtin(twin, types.VarArg(types.Any))(code)


def _call(b: Any, name: str, result: ir.Type, args: Sequence[Any]) -> Any:
    known = b.module.globals.get(name)
    if known is None:
        known = ir.Function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(known, list(args))


def _assembly(b: Any, text: str, constraints: str, result: ir.Type, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(result, [a.type for a in args])
    memory = ",~{memory}" if constraints else "~{memory}"
    return b.call(ir.InlineAsm(kind, text, constraints + memory, side_effect=True), list(args))


def _word(context: Any, b: Any, sig: Any, args: Any, k: int) -> Any:
    return context.cast(b, args[k], sig.args[k], types.int64)


def _place(context: Any, b: Any, sig: Any, args: Any, k: int = 0) -> Any:
    """Pointer to args[k][args[k + 1]]."""
    return b.gep(args[k], [_word(context, b, sig, args, k + 1)])


def _register_threads() -> None:
    special = {
        simt.thread: "tid", simt.threads: "ntid", simt.block: "ctaid", simt.blocks: "nctaid",
    }  # fmt: skip
    for twin, name in special.items():

        def code(context: Any, b: Any, sig: Any, args: Any, name: str = name) -> Any:
            return b.zext(_call(b, f"llvm.nvvm.read.ptx.sreg.{name}.x", _I32, []), _I64)

        register(twin, types.int64, (), code)

    def wait(context: Any, b: Any, sig: Any, args: Any) -> Any:
        _call(b, "llvm.nvvm.barrier0", ir.VoidType(), [])
        return context.get_dummy_value()

    register(simt.barrier, types.none, (), wait)
    register(simt.other, types.float32, (types.float32, int), _other)
    register(simt.pause, types.none, (), lambda c, b, sig, a: c.get_dummy_value())
    register(simt.shared, POINTERS["f32"], (), _shared)
    register(
        simt.shared_ints, POINTERS["i32"], (),
        lambda c, b, sig, a: b.bitcast(_shared(c, b, sig, a), _I32.as_pointer()),
    )  # fmt: skip


def _other(context: Any, b: Any, sig: Any, args: Any) -> Any:
    bit = b.trunc(_word(context, b, sig, args, 1), _I32)
    text = "shfl.sync.bfly.b32 $0, $1, $2, 31, -1;"
    return _assembly(b, text, "=f,f,r", _F32, [args[0], bit])


def _shared(context: Any, b: Any, sig: Any, args: Any) -> Any:
    name = "lr_shared"
    known = b.module.globals.get(name)
    if known is None:
        known = ir.GlobalVariable(b.module, ir.ArrayType(_F32, 0), name, addrspace=_SHARED)
        known.linkage, known.align = "external", 16
    zero = ir.Constant(_I32, 0)
    first = b.gep(known, [zero, zero])
    return b.addrspacecast(first, _F32.as_pointer())


def _register_pointers() -> None:
    for kind, twin in (
        ("f32", simt.f32), ("f64", simt.f64), ("i64", simt.i64),
        ("i32", simt.i32), ("u16", simt.u16), ("u8", simt.u8),
    ):  # fmt: skip

        def cast(context: Any, b: Any, sig: Any, args: Any, kind: str = kind) -> Any:
            return b.inttoptr(_word(context, b, sig, args, 0), _ELEMENTS[kind].as_pointer())

        register(twin, POINTERS[kind], (int,), cast)
    register(
        simt.address_of, types.int64, ("pointer",), lambda c, b, sig, a: b.ptrtoint(a[0], _I64)
    )
    register(simt.at, lambda p, n: p, ("pointer", int), lambda c, b, sig, a: _place(c, b, sig, a))
    register(
        simt.null, types.boolean, ("pointer",),
        lambda c, b, sig, a: b.icmp_unsigned("==", b.ptrtoint(a[0], _I64), ir.Constant(_I64, 0)),
    )  # fmt: skip


_FOUR = types.UniTuple(types.float32, 4)


def _tuple(b: Any, ty: ir.Type, values: Sequence[Any]) -> Any:
    made = ir.Constant(ir.ArrayType(ty, len(values)), ir.Undefined)
    for k, value in enumerate(values):
        made = b.insert_value(made, value, k)
    return made


def _vector(context: Any, b: Any, sig: Any, args: Any) -> Any:
    kind = ir.VectorType(_F32, 4).as_pointer()
    return b.bitcast(_place(context, b, sig, args), kind)


def _load4(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = b.load(_vector(context, b, sig, args))
    value.align = 16
    return _tuple(b, _F32, [b.extract_element(value, ir.Constant(_I32, k)) for k in range(4)])


def _store4(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = ir.Constant(ir.VectorType(_F32, 4), ir.Undefined)
    for k in range(4):
        x = context.cast(b, args[2 + k], sig.args[2 + k], types.float32)
        value = b.insert_element(value, x, ir.Constant(_I32, k))
    b.store(value, _vector(context, b, sig, args)).align = 16
    return context.get_dummy_value()


def _fresh4(context: Any, b: Any, sig: Any, args: Any) -> Any:
    text = "ld.global.cg.v4.f32 {$0, $1, $2, $3}, [$4];"
    kind = ir.LiteralStructType([_F32] * 4)
    value = _assembly(b, text, "=f,=f,=f,=f,l", kind, [_place(context, b, sig, args)])
    return _tuple(b, _F32, [b.extract_value(value, k) for k in range(4)])


def _half(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = b.load(b.bitcast(_place(context, b, sig, args), ir.HalfType().as_pointer()))
    value.align = 2
    return b.fpext(value, _F32)


def _bfloat(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = b.load(_place(context, b, sig, args))
    value.align = 2
    return b.bitcast(b.shl(b.zext(value, _I32), ir.Constant(_I32, 16)), _F32)


def _fetch(context: Any, b: Any, sig: Any, args: Any) -> Any:
    target = b.addrspacecast(_place(context, b, sig, args), _F32.as_pointer(_SHARED))
    source = _place(context, b, sig, args, 2)
    text = "cp.async.ca.shared.global [$0], [$1], 4;"
    _assembly(b, text, "r,l", ir.VoidType(), [b.ptrtoint(target, _I32), source])
    return context.get_dummy_value()


def _fetched(context: Any, b: Any, sig: Any, args: Any) -> Any:
    _assembly(b, "cp.async.wait_all;", "", ir.VoidType(), [])
    return context.get_dummy_value()


def _register_memory() -> None:
    pointer = POINTERS["f32"]
    register(simt.load4, _FOUR, (pointer, int), _load4)
    register(simt.store4, types.none, (pointer, int, float, float, float, float), _store4)
    register(simt.fresh4, _FOUR, (pointer, int), _fresh4)
    register(simt.half, types.float32, (POINTERS["u16"], int), _half)
    register(simt.bfloat, types.float32, (POINTERS["u16"], int), _bfloat)
    register(simt.fetch, types.none, (pointer, int, pointer, int), _fetch)
    register(simt.fetched, types.none, (), _fetched)


def _count_up(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = _word(context, b, sig, args, 2)
    text = "red.release.gpu.global.add.u64 [$0], $1;"
    _assembly(b, text, "l,l", ir.VoidType(), [_place(context, b, sig, args), value])
    return context.get_dummy_value()


def _take_ticket(context: Any, b: Any, sig: Any, args: Any) -> Any:
    text = "atom.acq_rel.gpu.global.add.u64 $0, [$1], 1;"
    return _assembly(b, text, "=l,l", _I64, [_place(context, b, sig, args)])


def _counted(context: Any, b: Any, sig: Any, args: Any) -> Any:
    text = "ld.acquire.gpu.global.u64 $0, [$1];"
    return _assembly(b, text, "=l,l", _I64, [_place(context, b, sig, args)])


def _put_tagged(context: Any, b: Any, sig: Any, args: Any) -> Any:
    low = b.zext(b.bitcast(context.cast(b, args[2], sig.args[2], types.float32), _I32), _I64)
    high = b.shl(_word(context, b, sig, args, 3), ir.Constant(_I64, 32))
    text = "st.relaxed.gpu.global.u64 [$0], $1;"
    _assembly(b, text, "l,l", ir.VoidType(), [_place(context, b, sig, args), b.or_(low, high)])
    return context.get_dummy_value()


def _get_tagged(context: Any, b: Any, sig: Any, args: Any) -> Any:
    text = "ld.relaxed.gpu.global.v2.u64 {$0, $1}, [$2];"
    kind = ir.LiteralStructType([_I64] * 2)
    value = _assembly(b, text, "=l,=l,l", kind, [_place(context, b, sig, args)])
    return _tuple(b, _I64, [b.extract_value(value, k) for k in range(2)])


def _register_words() -> None:
    words = POINTERS["i64"]
    register(simt.count_up, types.none, (words, int, int), _count_up)
    register(simt.take_ticket, types.int64, (words, int), _take_ticket)
    register(simt.counted, types.int64, (words, int), _counted)
    register(simt.put_tagged, types.none, (words, int, float, int), _put_tagged)
    register(simt.get_tagged, types.UniTuple(types.int64, 2), (words, int), _get_tagged)
    register(
        simt.tag_of, types.int64, (types.int64,),
        lambda c, b, sig, a: b.lshr(a[0], ir.Constant(_I64, 32)),
    )  # fmt: skip
    register(
        simt.value_of, types.float32, (types.int64,),
        lambda c, b, sig, a: b.bitcast(b.trunc(a[0], _I32), _F32),
    )  # fmt: skip


def _whole(context: Any, b: Any, sig: Any, args: Any) -> Any:
    wide = b.fpext(args[0], _F64) if sig.args[0] == types.float32 else args[0]
    return _call(b, "__nv_double2ll_rz", _I64, [wide])


def _register_numbers() -> None:
    def cast(kind: Any) -> Code:
        return lambda c, b, sig, a: c.cast(b, a[0], sig.args[0], kind)

    register(simt.single, types.float32, (float,), cast(types.float32))
    register(simt.double, types.float64, (float,), cast(types.float64))
    register(
        simt.as_float, types.float64, (int,),
        lambda c, b, sig, a: b.bitcast(_word(c, b, sig, a, 0), _F64),
    )  # fmt: skip
    register(
        simt.quotient, types.int64, (int, int),
        lambda c, b, sig, a: b.udiv(_word(c, b, sig, a, 0), _word(c, b, sig, a, 1)),
    )  # fmt: skip
    register(simt.whole, types.int64, (float,), _whole)
    libdevice = {
        simt.exp: "expf", simt.expm1: "expm1f", simt.log: "logf", simt.log1p: "log1pf",
        simt.sin: "sinf", simt.cos: "cosf", simt.tanh: "tanhf", simt.erf: "erff",
        simt.square_root: "fsqrt_rn", simt.floor: "floorf", simt.ceil: "ceilf",
        simt.round_even: "rintf",
    }  # fmt: skip
    for twin, name in libdevice.items():

        def code(context: Any, b: Any, sig: Any, args: Any, name: str = name) -> Any:
            return _call(b, f"__nv_{name}", _F32, [args[0]])

        register(twin, types.float32, (types.float32,), code)


def register_helpers() -> None:
    """Let kernels call the helpers of all modules imported so far."""
    while simt.INLINED:
        register_jitable(simt.INLINED.pop())


_register_threads()
_register_pointers()
_register_memory()
_register_words()
_register_numbers()
