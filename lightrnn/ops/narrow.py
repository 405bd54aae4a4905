"""Element types that NumPy lacks: the type that carries their values, and how values become theirs.

Tensors of such a type are float32 or 8-bit integers that hold its values exactly; only Cast knows
it, by its number in ONNX (TensorProto.DataType).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from lightrnn.graph import FLOAT32, Array
from lightrnn.record import Record


class Float(Record):
    """A float type. mantissa: its bits, the hidden one apart; lowest: the smallest exponent.

    largest: the largest finite value. beyond: what larger values become if they do not saturate.
    saturates: whether they do so whatever the attribute says, or never (None: as it says).
    signed_zero: whether there is a -0. nan: what NaN becomes.
    """

    name: str
    mantissa: int
    lowest: int
    largest: float
    beyond: float = np.nan
    saturates: bool | None = None
    signed_zero: bool = True
    nan: float = np.nan

    carrier = FLOAT32

    def convert(self, x: Array, saturate: bool, round_mode: str) -> Array:
        """Every value rounded to the nearest of this type, halves to even."""
        wide = x.astype(np.float64)
        _, exponent = np.frexp(wide)
        quantum = np.ldexp(1.0, np.maximum(exponent - 1, self.lowest) - self.mantissa)
        y = np.where(np.isfinite(wide), np.rint(wide / quantum) * quantum, wide)
        always = self.saturates if self.saturates is not None else saturate
        end = self.largest if always else self.beyond
        y = np.where(np.abs(y) > self.largest, np.copysign(end, y), y)
        y = np.where(np.isnan(wide), self.nan, y)
        return (y if self.signed_zero else y + 0.0).astype(FLOAT32)


class Power(Record):
    """float8e8m0: 2 to the power of -127 to 127, or NaN."""

    name: str

    carrier = FLOAT32

    def convert(self, x: Array, saturate: bool, round_mode: str) -> Array:
        """Every value as the power below or above it, or the nearest, halves up."""
        mantissa, exponent = np.frexp(x.astype(np.float64))  # x is mantissa * 2 ** exponent
        above = {"up": mantissa > 0.5, "down": mantissa >= 1, "nearest": mantissa >= 0.75}
        power = exponent - 1 + above[round_mode]
        low = (x == 0) | (power < -127)
        high = np.isposinf(x) | (power > 127)
        y = np.ldexp(1.0, np.clip(power, -127, 127))
        y = np.where(low, 2.0**-127 if saturate else np.nan, y)
        y = np.where(high & ~low, 2.0**127 if saturate else np.nan, y)
        return np.where(np.isnan(x) | (x < 0), np.nan, y).astype(FLOAT32)


class Integer(Record):
    """An integer type of a few bits."""

    name: str
    bits: int
    signed: bool

    @property
    def carrier(self) -> np.dtype[Any]:
        return np.dtype(np.int8 if self.signed else np.uint8)

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest value."""
        half = 1 << self.bits - 1 if self.signed else 0
        return -half, (1 << self.bits) - half - 1

    def convert(self, x: Array, saturate: bool, round_mode: str) -> Array:
        """Every value without its fraction and higher bits."""
        half = -self.limits[0]
        y = (x.astype(np.int64) + half) % (1 << self.bits) - half
        return y.astype(self.carrier)


NarrowType: TypeAlias = Float | Power | Integer

NARROW: dict[int, NarrowType] = {
    16: Float("bfloat16", 7, -126, 2.0**128 - 2.0**120, np.inf, saturates=False),
    17: Float("float8e4m3fn", 3, -6, 448.0),
    18: Float("float8e4m3fnuz", 3, -7, 240.0, signed_zero=False),
    19: Float("float8e5m2", 2, -14, 57344.0, np.inf),
    20: Float("float8e5m2fnuz", 2, -15, 57344.0, signed_zero=False),
    21: Integer("uint4", 4, signed=False),
    22: Integer("int4", 4, signed=True),
    23: Float("float4e2m1", 1, 0, 6.0, saturates=True, nan=0.0),
    24: Power("float8e8m0"),
    25: Integer("uint2", 2, signed=False),
    26: Integer("int2", 2, signed=True),
    27: Float("float6e2m3", 3, 0, 7.5, saturates=True, nan=0.0),
    28: Float("float6e3m2", 2, -2, 28.0, saturates=True, nan=0.0),
}
"""By number. (https://onnx.ai/onnx/operators/onnx__Cast.html, and the types' own papers there)"""
