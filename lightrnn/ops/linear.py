"""Matrix products, MatMul and Gemm, and determinants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, Array, TensorType
from lightrnn.ops.arguments import same_size
from lightrnn.ops.broadcast import broadcast_shape
from lightrnn.ops.lowering import Emitter, Operand, Ref
from lightrnn.ops.packing import (
    LARGEST,
    padded,
    panel_bytes,
    room_bytes,
    weight_kind,
    weight_panels,
)
from lightrnn.ops.registry import Case, Operator, Slots, Types, operator


def emit_gemm(
    emit: Emitter,
    a: Operand | Ref,
    b: Operand,
    c: Operand,
    *,
    m: int,
    k: int,
    n: int,
    batch: int = 1,
    shared_a: bool = False,
    shared_b: bool = False,
    transposed: bool = False,
    scale: float = 1.0,
    init: Operand | Ref | None = None,
    ldi: int = 0,
) -> None:
    """c [batch, m, n] = init + a [batch, m, k] · b, packing b now or, if it is known, once.

    b: [batch, k, n], or [batch, n, k] if transposed. shared_*: one matrix for the whole batch.
    scale multiplies b and must be 1 for a b that is not known. ldi: 0 where init is one row.
    """
    matrices, stored, kind, room = 1 if shared_b else batch, "float32", 0, None
    if b.value is not None and scale == 1.0:
        stored, kind = weight_kind(emit, m, b, columns=not transposed)
    single = n == 1 and (batch == 1 or (shared_b and not shared_a))
    if single and stored not in (*LARGEST, "tiles") and emit.target == "cpu":
        vector: Operand | Ref = b
        if scale != 1.0:
            vector = emit.packed((b,), ("scaled", scale), lambda v: v * np.float32(scale))
        rows = batch * m
        emit.call("matvec", a, vector, init, c, 1, rows, k, k, ldi, 0, 0, work=rows * k)
        return
    if b.value is None and not shared_b and init is None and 1 in (m, n) and emit.target == "cpu":
        assert scale == 1.0
        a_step = 0 if shared_a else m * k
        emit_single(emit, a, b, c, batch, m, k, n, a_step=a_step, transposed=transposed)
        return
    if b.value is not None:

        def pack(value: Array) -> Array:
            matrix = value.reshape(matrices, *((n, k) if transposed else (k, n)))
            if transposed:
                matrix = np.swapaxes(matrix, 1, 2)
            return weight_panels(matrix if scale == 1.0 else matrix * np.float32(scale), stored)

        if words := room_bytes(batch * m, k, stored):
            room = emit.scratch(words)
        packed = emit.packed((b,), ("panels", matrices, transposed, scale, stored), pack)
    else:
        assert scale == 1.0
        packed = emit.scratch(matrices * panel_bytes(padded(n), k, "float32"))
        row, column = (1, k) if transposed else (n, 1)
        emit.call(
            "pack_panels", b, packed, matrices, k, n, row, column, k * n, work=matrices * k * n
        )
    emit.call(
        "gemm", a, packed, init, c, batch, m, n, k, k, ldi, n,
        0 if shared_a else m * k, 0 if shared_b else k * padded(n), 0, m * n, kind, room,
        work=batch * m * n * k,
    )  # fmt: skip


def _lower_product(
    emit: Emitter,
    a: Operand,
    b: Operand,
    right: tuple[int, ...],
    y: Operand | None,
    transposed: bool = False,
) -> bool:
    """MatMul of a and b, which is [..., k, n] of the shape `right`, or that with [n, k].

    How a product is done depends on its own rows, not on how many others share the batch.
    """
    if y is None or a.type.dtype != FLOAT32:
        return y is None
    left = a.shape if len(a.shape) > 1 else (1, *a.shape)
    (m, k), n = left[-2:], right[-1]
    many_a, many_b = prod(left[:-2]), prod(right[:-2])
    if many_b == 1 and (b.value is not None or left[:-2] != right[:-2]):
        rows = many_a * m
        emit_gemm(emit, a, b, y, m=rows, k=k, n=n, shared_b=True, transposed=transposed)
    elif many_a == 1 or left[:-2] == right[:-2]:
        shared_a = many_a == 1 and left[:-2] != right[:-2]
        emit_gemm(
            emit, a, b, y, batch=many_b, m=m, k=k, n=n, shared_a=shared_a, transposed=transposed
        )
    else:
        return False
    return True


def emit_single(
    emit: Emitter,
    a: Operand | Ref,
    b: Operand | Ref,
    c: Operand | Ref,
    batch: int,
    m: int,
    k: int,
    n: int,
    *,
    a_step: int,
    transposed: bool,
) -> None:
    """c [batch, m, n] = a · b as they lie, for m or n of 1 on a CPU.

    b: [batch, k, n], or [batch, n, k] if transposed. a_step: elements between matrices of a.
    """
    work = batch * m * k * n
    if n == 1:
        emit.call("matvec", a, b, None, c, batch, m, k, k, 0, a_step, k, work=work)
    elif transposed:
        emit.call("matvec", b, a, None, c, batch, n, k, k, 0, n * k, a_step, work=work)
    else:
        emit.call("vecmat", a, b, c, batch, k, n, a_step, k * n, work=work)


@operator("MatMul", inputs="A B", outputs="Y")
class MatMul(Operator):
    """Matrix product with NumPy's broadcasting of leading axes (ONNX MatMul)."""

    rtol = 2e-6
    kinds = "iuf"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        a, b = inputs
        assert a is not None
        assert b is not None
        if a.dtype != b.dtype:
            raise GraphError(f"A is {a.dtype}, B is {b.dtype}")
        if a.shape is None or b.shape is None:
            return (TensorType(a.dtype, None),)
        if not a.shape or not b.shape:
            raise GraphError("a scalar has no matrix product")
        left = a.shape if len(a.shape) > 1 else (1, *a.shape)
        right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
        same_size(left[-1], right[-2], "inner sizes")
        shape = broadcast_shape((left[:-2], right[:-2])) or ()
        if len(a.shape) > 1:
            shape += (left[-2],)
        if len(b.shape) > 1:
            shape += (right[-1],)
        return (TensorType(a.dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        a, b = inputs
        assert a is not None
        assert b is not None
        with np.errstate(all="ignore"):
            return (np.asarray(np.matmul(a, b), a.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b = inputs
        assert a is not None
        assert b is not None
        right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
        return _lower_product(emit, a, b, right, outputs[0])

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in (
            ((3, 4), (4, 5)), ((1, 7), (7, 33)), ((13, 9), (9, 70)), ((5,), (5, 3)), ((2, 5), (5,)),
            ((6,), (6,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 17)), ((4, 4), (3, 4, 2)),
            ((2, 1, 3, 4), (5, 4, 2)), ((0, 4), (4, 5)), ((3, 0), (0, 5)),
            ((2, 3, 7, 8), (2, 3, 8, 7)), ((2, 7, 37), (37, 1)), ((9, 32), (32, 1)),
            ((3, 5, 20), (3, 20, 1)), ((3, 1, 20), (3, 20, 37)), ((1, 300), (300, 150)),
            ((2, 3, 1, 7), (2, 3, 7, 1)), ((1, 1, 5), (3, 5, 4)), ((1, 6, 5), (3, 5, 1)),
            ((2, 1, 0), (2, 0, 3)),
        ):  # fmt: skip
            arrays = tuple(rng.standard_normal(s).astype(np.float32) for s in (a, b))
            yield Case(f"{a}x{b}", arrays)
        ints = tuple(rng.integers(-9, 9, s).astype(np.int32) for s in ((3, 4), (4, 5)))
        yield Case("int32", ints)


class MatMulTransposed(Operator):
    """A · B' where B' is B with its last two axes exchanged; made by preparing only."""

    name = "MatMulTransposed"
    inputs = Slots.parse("A B")
    outputs = Slots.parse("Y")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        a, b = inputs
        assert b is not None
        shape = None if b.shape is None else (*b.shape[:-2], b.shape[-1], b.shape[-2])
        return MatMul().infer((a, TensorType(b.dtype, shape)))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        a, b = inputs
        assert b is not None
        return MatMul().evaluate(a, np.swapaxes(b, -1, -2))

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b = inputs
        assert a is not None
        assert b is not None
        right = (*b.shape[:-2], b.shape[-1], b.shape[-2])
        return _lower_product(emit, a, b, right, outputs[0], transposed=True)


class Linear(Operator):
    """A · B + bias with a constant matrix B [K, N] and a constant row; made by preparing only."""

    name = "Linear"
    inputs = Slots.parse("A B bias")
    outputs = Slots.parse("Y")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        return MatMul().infer(inputs[:2])

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        a, b, bias = inputs
        (y,) = MatMul().evaluate(a, b)
        return (y + bias,)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b, bias = inputs
        y = outputs[0]
        assert a is not None
        assert b is not None
        assert bias is not None
        if y is None:
            return True
        k, n = b.shape
        init = emit.packed((bias,), "row", lambda row: row)
        rows = prod(a.shape[:-1])
        emit_gemm(emit, a, b, y, m=rows, k=k, n=n, shared_b=True, init=init)
        return True


@operator("Gemm", inputs="A B C?", outputs="Y")
class Gemm(Operator):
    """alpha * A' · B' + beta * C, where ' transposes if asked (ONNX Gemm)."""

    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0  # noqa: N815
    transB: int = 0  # noqa: N815

    rtol = 2e-6
    kinds = "iuf"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        a, b = inputs[:2]
        c = inputs[2] if len(inputs) > 2 else None
        assert a is not None
        assert b is not None
        if a.dtype != b.dtype or (c is not None and c.dtype != a.dtype):
            raise GraphError("A, B and C have different element types")
        for name, t in (("A", a), ("B", b)):
            if t.rank not in (None, 2):
                raise GraphError(f"{name} has rank {t.rank}, expected 2")
        m, k = a.shape[:: -1 if self.transA else 1] if a.shape else (None, None)
        k_b, n = b.shape[:: -1 if self.transB else 1] if b.shape else (None, None)
        same_size(k, k_b, "inner sizes")
        if c is not None and c.shape is not None:
            if len(c.shape) > 2:
                raise GraphError(f"C has rank {c.rank}, expected at most 2")
            for size, whole in zip(c.shape[::-1], (n, m), strict=False):
                if size != 1:
                    same_size(size, whole, "sizes of C and Y")
        return (TensorType(a.dtype, (m, n)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        a, b = inputs[:2]
        c = inputs[2] if len(inputs) > 2 else None
        assert a is not None
        assert b is not None
        with np.errstate(all="ignore"):
            y = np.matmul(a.T if self.transA else a, b.T if self.transB else b)
            y = y * np.asarray(self.alpha, a.dtype) if self.alpha != 1.0 else y
            if c is not None:
                y = y + (c if self.beta == 1.0 else c * np.asarray(self.beta, a.dtype))
        return (np.asarray(y, a.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b = inputs[:2]
        c = inputs[2] if len(inputs) > 2 else None
        y = outputs[0]
        assert a is not None
        assert b is not None
        if y is None or a.type.dtype != FLOAT32 or (self.transA and 1 not in a.shape):
            return y is None
        if self.alpha != 1.0 and b.value is None:
            return False
        m, n = y.shape
        init: Operand | Ref | None = None
        ldi = 0
        if c is not None and c.value is not None:
            rows = m if c.value.ndim == 2 and c.value.shape[0] != 1 else 1
            init = emit.packed((c,), ("gemm bias", self.beta, rows, n), self._bias(rows, n))
            ldi = n if rows > 1 else 0
        elif c is not None:
            if self.beta != 1.0 or c.shape not in ((n,), (1, n), (m, n)):
                return False
            init, ldi = c, n if c.shape == (m, n) else 0
        emit_gemm(
            emit, a, b, y, m=m, n=n, k=a.shape[0 if self.transA else 1],
            transposed=bool(self.transB), scale=self.alpha, init=init, ldi=ldi,
        )  # fmt: skip
        return True

    def _bias(self, rows: int, n: int) -> Callable[[Array], Array]:
        def pack(c: Array) -> Array:
            wide = np.broadcast_to(c * np.float32(self.beta), (rows, n))
            return np.ascontiguousarray(wide, np.float32)

        return pack

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        def arrays(*shapes: tuple[int, ...]) -> tuple[Array, ...]:
            return tuple(rng.standard_normal(s).astype(np.float32) for s in shapes)

        yield Case("plain", arrays((3, 4), (4, 5)))
        yield Case("bias", arrays((7, 4), (4, 35), (35,)))
        yield Case("full bias", arrays((3, 4), (4, 5), (3, 5)))
        yield Case("column bias", arrays((3, 4), (4, 5), (3, 1)))
        yield Case("scalar bias", arrays((3, 4), (4, 5), ()), {"beta": 0.5})
        attrs = {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}
        yield Case("transposed, scaled", arrays((4, 3), (5, 4), (1, 5)), attrs)
        yield Case("row", arrays((1, 40), (33, 40), (33,)), {"transB": 1})
        yield Case("no rows", arrays((0, 4), (4, 5), (5,)))
        yield Case("one column", arrays((6, 19), (1, 19), (6, 1)), {"transB": 1, "alpha": 0.5})
        yield Case("one column, scalar bias", arrays((5, 16), (16, 1), (1,)))


@operator("Det", inputs="X", outputs="Y")
class Det(Operator):
    """Determinants of square matrices, [..., M, M] to [...] (ONNX Det 22)."""

    kinds = "f"
    rtol = 4e-6

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        (x,) = inputs
        assert x is not None
        if x.shape is None:
            return (TensorType(x.dtype, None),)
        if len(x.shape) < 2:
            raise GraphError(f"X is {x}, expected square matrices")
        same_size(x.shape[-1], x.shape[-2], "sizes of a square matrix")
        return (TensorType(x.dtype, x.shape[:-2]),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        (x,) = inputs
        assert x is not None
        return (np.asarray(np.linalg.det(x.astype(np.float64)), x.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((3, 3), (2, 4, 4, 4), (5, 1, 1), (2, 2, 2)):
            yield Case(str(shape), (rng.standard_normal(shape).astype(np.float32),))
