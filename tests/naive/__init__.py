"""Plain NumPy in float64, written from the operators' texts: what the rest of the tests believe.

One operator a file. Nothing here comes from `lightrnn`; loops are as good as anything. Arguments
and attributes have ONNX's names and order; an optional input left out is None.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
