"""Pairs of bfloat16 in the lanes of vectors. Needs AVX512-BF16."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from lightrnn.kernels.intrinsic import F16, I16, LANES, VF, VI, compiled, signature


def _dot(context: Any, b: Any, sig: Any, args: Any) -> Any:
    kind = ir.FunctionType(VF, [VI, VI, VF])
    return b.asm(kind, "vdpbf16ps $2, $1, $0", "=v,v,v,0", args, side_effect=False)


@compiled(signature(F16, I16, I16, F16), _dot)
def dot_bfloats(x: Any, y: Any, total: Any) -> Any:
    """total + x0 * y0 + x1 * y1 in each lane, of the pairs in its words; denormals are zeros."""
    with np.errstate(all="ignore"):
        products = widened(x).astype(np.float64) * widened(y)
        return (total + products.reshape(LANES, 2).sum(axis=1)).astype(np.float32)


def widened(words: Any) -> Any:
    """bfloat16 in an array of any whole numbers, as float32."""
    shorts = np.ascontiguousarray(words).view(np.uint16)
    return (shorts.astype(np.uint32) << 16).view(np.float32)


def _narrow(context: Any, b: Any, sig: Any, args: Any) -> Any:
    shorts = ir.VectorType(ir.IntType(16), LANES)
    kind = ir.FunctionType(shorts, [VF])
    return b.zext(b.asm(kind, "vcvtneps2bf16 $1, $0", "=v,v", args, side_effect=False), VI)


@compiled(signature(I16, F16), _narrow)
def as_bfloats(x: Any) -> Any:
    """The nearest bfloat16, ties to even, in the low half of each word; denormals are zeros."""
    bits = x.view(np.uint32)
    bits = np.where(np.abs(x) < 2.0**-126, bits & np.uint32(0x80000000), bits)
    near = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), (bits >> 16) | np.uint32(0x40), near).astype(np.int32)
