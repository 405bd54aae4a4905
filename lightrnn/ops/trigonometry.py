"""Hyperbolic functions, and inverses of trigonometric and hyperbolic ones."""

from __future__ import annotations

import numpy as np

from lightrnn.graph import Array
from lightrnn.ops.elementwise import Unary
from lightrnn.ops.registry import operator


@operator("Sinh", inputs="input", outputs="output")
class Sinh(Unary):
    def compute(self, x: Array) -> Array:
        return np.sinh(x)


@operator("Cosh", inputs="input", outputs="output")
class Cosh(Unary):
    def compute(self, x: Array) -> Array:
        return np.cosh(x)


@operator("Asin", inputs="input", outputs="output")
class Asin(Unary):
    domain = (-1.0, 1.0)

    def compute(self, x: Array) -> Array:
        return np.arcsin(x)


@operator("Acos", inputs="input", outputs="output")
class Acos(Unary):
    domain = (-1.0, 1.0)

    def compute(self, x: Array) -> Array:
        return np.arccos(x)


@operator("Atan", inputs="input", outputs="output")
class Atan(Unary):
    domain = (-9.0, 9.0)

    def compute(self, x: Array) -> Array:
        return np.arctan(x)


@operator("Asinh", inputs="input", outputs="output")
class Asinh(Unary):
    domain = (-9.0, 9.0)

    def compute(self, x: Array) -> Array:
        return np.arcsinh(x)


@operator("Acosh", inputs="input", outputs="output")
class Acosh(Unary):
    domain = (1.0, 9.0)

    def compute(self, x: Array) -> Array:
        return np.arccosh(x)


@operator("Atanh", inputs="input", outputs="output")
class Atanh(Unary):
    domain = (-0.99, 0.99)

    def compute(self, x: Array) -> Array:
        return np.arctanh(x)
