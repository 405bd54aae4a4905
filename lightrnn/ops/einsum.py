"""Einsum: products summed over named axes, as matrix products where two operands allow it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, Array, Dim, Shape, TensorType
from lightrnn.ops.arguments import given, inferred, same_dtype
from lightrnn.ops.broadcast import broadcast_dim, broadcast_shape
from lightrnn.ops.copying import collapse, emit_copy, row_major
from lightrnn.ops.linear import emit_single
from lightrnn.ops.lowering import Emitter, Operand, Ref
from lightrnn.ops.packing import padded, panel_bytes, panels
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats
from lightrnn.record import Record

_TERM = re.compile(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*")


class Equation(Record):
    """Subscripts of the operands and of the output; "." stands for an ellipsis."""

    operands: tuple[str, ...]
    output: str

    @staticmethod
    def parse(text: str) -> Equation:
        """Raises GraphError for what is no equation."""
        plain = text.replace(" ", "")
        left, arrow, right = plain.partition("->")
        terms = left.split(",")
        if not all(_TERM.fullmatch(term) for term in [*terms, right]):
            raise GraphError(f"{text!r} is no equation")
        letters = [c for c in left if c.isalpha()]
        if not arrow:
            once = sorted(c for c in set(letters) if letters.count(c) == 1)
            right = ("..." if "..." in left else "") + "".join(once)
        named = [c for c in right if c.isalpha()]
        if len(set(named)) != len(named) or not set(named) <= set(letters):
            raise GraphError(f"the output of {text!r} repeats or invents an axis")
        return Equation(tuple(t.replace("...", ".") for t in terms), right.replace("...", "."))


@operator("Einsum", inputs="Inputs rest*", outputs="Output")
class Einsum(Operator):
    """The sum over axes missing in the output of products of elements (ONNX Einsum 12)."""

    equation: str

    rtol = 4e-6
    kinds = "iuf"

    def __post_init__(self) -> None:
        Equation.parse(self.equation)

    @cached_property
    def _parsed(self) -> Equation:
        return Equation.parse(self.equation)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "inputs")
        terms, dtype = self._parsed.operands, given(inputs).dtype
        if len(terms) != len(inputs):
            raise GraphError(f"{self.equation!r} has {len(terms)} operands, not {len(inputs)}")
        sizes: dict[str, Dim] = {}
        dots: list[Shape] = []
        for k, term in enumerate(terms):
            shape = given(inputs, k).shape
            if shape is None:
                return (TensorType(dtype, None),)
            for letter, size in self._named(term, shape, dots):
                sizes[letter] = broadcast_dim(sizes.get(letter, 1), size)
        middle = broadcast_shape(dots) or ()
        before, dot, after = self._parsed.output.partition(".")
        out = [sizes[c] for c in before], middle if dot else (), [sizes[c] for c in after]
        return (TensorType(dtype, (*out[0], *out[1], *out[2])),)

    def _named(self, term: str, shape: Shape, dots: list[Shape]) -> list[tuple[str, Dim]]:
        """The named axes of an operand with their sizes; its other axes go to `dots`."""
        before, dot, after = term.partition(".")
        named = len(before) + len(after)
        if len(shape) < named or (not dot and len(shape) > named):
            raise GraphError(f"an operand of rank {len(shape)} does not fit {term!r}")
        end = len(shape) - len(after)
        if dot:
            dots.append(shape[len(before) : end])
        return [*zip(before, shape, strict=False), *zip(after, shape[end:], strict=True)]

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        out = inferred(self, inputs)[0]
        arrays = [given(inputs, k) for k in range(len(inputs))]
        half = out.dtype == np.float16
        with np.errstate(all="ignore"):
            y = np.einsum(
                self.equation,
                *(a.astype(np.float32) if half else a for a in arrays),
                optimize=len(arrays) > 1 and out.dtype.kind == "f",
            )
        return (np.asarray(y, out.dtype).reshape(out.sizes),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        if len(inputs) != 2 or given(inputs).type.dtype != FLOAT32:
            return False
        product = _Product.plan(self._parsed, given(inputs), given(inputs, 1))
        if product is None:
            return False
        if outputs[0] is not None and outputs[0].size:
            product.emit(emit, given(inputs), given(inputs, 1), outputs[0])
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        def case(equation: str, *shapes: tuple[int, ...]) -> Case:
            return Case(equation, tuple(floats(rng, *s) for s in shapes), {"equation": equation})

        yield case("bqd,bkd->bqk", (2, 3, 5), (2, 17, 5))
        yield case("bqk,bkd->bqd", (2, 3, 17), (2, 17, 5))
        yield case("bh,blh->bl", (3, 20), (3, 7, 20))
        yield case("bl,blh->bh", (3, 7), (3, 7, 70))
        yield case("nqd,nkd->nqk", (2, 1, 5), (2, 17, 5))
        yield case("lbh,bh->bl", (7, 3, 20), (3, 20))
        yield case("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 7, 5))
        yield case("bqhd,bkhd->bhqk", (2, 4, 3, 5), (2, 7, 3, 5))
        yield case("bhqk,bkhd->bqhd", (2, 3, 4, 7), (2, 7, 3, 5))
        yield case("ij,jk", (3, 4), (4, 5))
        yield case("i,j->ji", (3,), (4,))
        yield case("ij,ij->i", (3, 4), (3, 4))
        yield case("i,i->", (7,), (7,))
        yield case("tni,hi->tnh", (4, 2, 5), (19, 5))
        yield case("ab,cd->dbca", (2, 3), (4, 5))
        yield case("ii->i", (4, 4))
        yield case("ii", (4, 4))
        yield case("ij->ji", (3, 4))
        yield case("ij->", (3, 4))
        yield case("...ij,...jk->...ik", (2, 3, 4), (4, 5))
        yield case("...ij->...ji", (2, 2, 3, 4))
        yield case("a...,a...->...", (3, 2, 5), (3, 5))
        yield case("ij,jk,kl->il", (2, 3), (3, 4), (4, 5))
        yield case("ij,j->i", (0, 4), (4,))
        yield case("ij,jk->ik", (3, 0), (0, 4))
        yield case("Bi , Bj -> Bij", (2, 3), (2, 4))
        ints = tuple(rng.integers(-9, 9, s) for s in ((3, 4), (4, 5)))
        yield Case("int64", ints, {"equation": "ij,jk->ik"})
        doubles = tuple(rng.standard_normal(s) for s in ((3, 4), (4, 5)))
        yield Case("float64", doubles, {"equation": "ij,jk->ik"})


class _Product(Record):
    """A product of two operands as c [batch, m, n] = a [batch, m, k] · b [batch, k, n].

    a_axes, b_axes, c_axes: the named axes of each in its own order; batch, m, k, n: which axes
    make up each side, in the order that all three are brought to.
    """

    sizes: dict[str, int]
    a_axes: str
    b_axes: str
    c_axes: str
    batch: str
    m: str
    k: str
    n: str

    @staticmethod
    def plan(equation: Equation, a: Operand, b: Operand) -> _Product | None:
        """None where the operands do not make one: ellipses, diagonals, repeats, lone sums."""
        a_axes, b_axes = equation.operands
        c_axes = equation.output
        sizes: dict[str, int] = {}
        for axes, shape in ((a_axes, a.shape), (b_axes, b.shape)):
            if "." in axes or len(set(axes)) != len(axes):
                return None
            for name, size in zip(axes, shape, strict=True):
                if sizes.setdefault(name, size) != size:
                    return None
        if any((x in a_axes) + (x in b_axes) + (x in c_axes) < 2 for x in sizes):
            return None
        both = [x for x in a_axes if x in b_axes]
        return _Product(
            sizes, a_axes, b_axes, c_axes,
            batch="".join(x for x in c_axes if x in both),
            m="".join(x for x in c_axes if x not in b_axes),
            k="".join(x for x in both if x not in c_axes),
            n="".join(x for x in c_axes if x not in a_axes),
        )  # fmt: skip

    def _size(self, axes: str) -> int:
        return prod(self.sizes[x] for x in axes)

    def _strides(self, axes: str, wanted: str) -> list[int]:
        """Strides of a tensor with `axes`, in the order `wanted`."""
        strides = row_major([self.sizes[x] for x in axes])
        return [strides[axes.index(x)] for x in wanted]

    def emit(self, emit: Emitter, a: Operand, b: Operand, c: Operand) -> None:
        """Bring a and b into order, multiply, and bring the product into c's order."""
        batch, m, k, n = (self._size(x) for x in (self.batch, self.m, self.k, self.n))
        left = self._ordered(emit, a, self.a_axes, self.batch + self.m + self.k)
        order = self.batch + self.m + self.n
        straight = self._in_order(self.c_axes, order)
        product: Operand | Ref = c if straight else emit.scratch(batch * m * n * 4)
        if b.value is None and emit.target == "cpu" and self._is_single(self.m, self.n):
            right, transposed = self._right(emit, b)
            emit_single(
                emit, left, right, product, batch, m, k, n, a_step=m * k, transposed=transposed
            )
        else:
            packed = self._packed(emit, b, batch, k, n)
            emit.call(
                "gemm", left, packed, None, product, batch, m, n, k, k, 0, n, m * k, k * padded(n),
                0, m * n, 0, None, work=batch * m * n * k,
            )  # fmt: skip
        if not straight:
            sizes = [self.sizes[x] for x in order]
            emit_copy(emit, product, c, sizes, row_major(sizes), self._strides(self.c_axes, order))

    def _is_single(self, *sides: str) -> bool:
        """Whether a side is one row or column in each product, whatever the batch."""
        return any(not side or (bool(self.batch) and self._size(side) == 1) for side in sides)

    def _in_order(self, axes: str, wanted: str) -> bool:
        sizes = [self.sizes[x] for x in wanted]
        if 0 in sizes:
            return True
        strides = self._strides(axes, wanted)
        return len(collapse(list(zip(sizes, strides, row_major(sizes), strict=True)))) < 2

    def _ordered(self, emit: Emitter, source: Operand, axes: str, wanted: str) -> Operand | Ref:
        """The tensor with its axes in the order `wanted`, copied if need be."""
        if self._in_order(axes, wanted):
            return source
        sizes = [self.sizes[x] for x in wanted]
        copy = Operand("", source.type, emit.scratch(prod(sizes) * 4))
        emit_copy(emit, source, copy, sizes, self._strides(axes, wanted), row_major(sizes))
        return copy.ref

    def _right(self, emit: Emitter, b: Operand) -> tuple[Operand | Ref, bool]:
        """b as [batch, k, n], or as [batch, n, k] if that is its order; and whether it is."""
        if self._in_order(self.b_axes, self.batch + self.n + self.k):
            return b, True
        return self._ordered(emit, b, self.b_axes, self.batch + self.k + self.n), False

    def _packed(self, emit: Emitter, b: Operand, batch: int, k: int, n: int) -> Ref:
        """b as panels of [k, 16], `batch` times."""
        order = self.batch + self.k + self.n
        if b.value is not None:
            axes = [self.b_axes.index(x) for x in order]

            def pack(value: Array) -> Array:
                return panels(np.transpose(value, axes).reshape(batch, k, n))

            return emit.packed((b,), ("einsum panels", tuple(axes), batch, k, n), pack)
        right, transposed = self._right(emit, b)
        packed = emit.scratch(batch * panel_bytes(padded(n), k, "float32"))
        row, column = (1, k) if transposed else (n, 1)
        emit.call("pack_panels", right, packed, batch, k, n, row, column, k * n, work=batch * k * n)
        return packed
