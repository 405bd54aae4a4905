"""Vector mathematics of the compiled kernels against float64, within what docstrings promise."""

from __future__ import annotations

import ctypes
import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightrnn.graph import Array
from lightrnn.kernels import vmath
from lightrnn.native import library
from lightrnn.native.abi import BUILT, CODE, UNARY, kernels_of
from tests.kernels import address, run_kernel

pytestmark = pytest.mark.native

Reference = Callable[[Array], Any]
IN_ULPS: dict[str, tuple[Any, Reference]] = {
    "Tanh": (vmath.tanh, np.tanh),
    "Sigmoid": (vmath.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "Exp": (vmath.exp, np.exp),
    "Log": (vmath.log, np.log),
    "Erf": (vmath.erf, np.vectorize(math.erf, otypes=[float])),
    "Softplus": (vmath.softplus, lambda x: np.logaddexp(0, x)),
    "Elu": (vmath.expm1_negative, lambda x: np.where(x < 0, np.expm1(x), x)),
}
ABSOLUTE: dict[str, tuple[Any, Reference]] = {
    "Sin": (vmath.sin, np.sin),
    "Cos": (vmath.cos, np.cos),
}
EVERY = {**IN_ULPS, **ABSOLUTE}
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e-45, -1e-45, 1.1754944e-38, -1.1754942e-38, 3.4028235e38,
     -3.4028235e38, 88.72284, 88.72283, -87.33655, -87.33654, -103.97, -104.0, 20.0, -20.0, 4.0,
     vmath.LARGE_ANGLE, -vmath.LARGE_ANGLE, np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip


def compiled(name: str, x: Array, level: str | None = None) -> Array:
    """A function of the `unary` kernel, alpha 1, on every element."""
    y = np.empty_like(x)
    args = (x, y, x.size, UNARY.index(name), 1.0, 1.0)
    if level is None:
        run_kernel("unary", *args, backend="native")
        return y
    kernels = library.load()
    assert kernels is not None
    one = int(np.float64(1).view(np.int64))
    words = np.array([address(x), address(y), x.size, args[3], one, one], np.int64)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    kind(kernels.address(f"lr_{level}_unary"))(address(words), 0, 1)
    return y


def samples(count: int = 200_000) -> Array:
    """All magnitudes alike, and the ranges where the functions bend, more densely."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    ranges = [rng.uniform(-r, r, count).astype(np.float32) for r in (1.2, 10.0, 110.0)]
    found = np.concatenate([SPECIAL, bits, *ranges])
    return found[np.isfinite(found)]


def promised(function: Any, unit: str) -> float:
    """The figure beside a unit in the first line of a docstring."""
    found = re.search(unit, inspect.getdoc(function) or "")
    assert found is not None, function
    return float(found[1])


@pytest.mark.parametrize("name", IN_ULPS)
def test_errors_stay_within_the_promised_ulps(name: str) -> None:
    function, reference = IN_ULPS[name]
    x = samples()
    with np.errstate(all="ignore"):
        exact = np.asarray(reference(x.astype(np.float64)), np.float64)
        rounded = exact.astype(np.float32)
        found = compiled(name, x)
        ulps = np.abs(found - exact) / np.spacing(np.abs(rounded))
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    worst = int(np.argmax(ulps[finite]))
    assert ulps[finite][worst] <= promised(function, r"([\d.]+) ulp"), x[finite][worst]


@pytest.mark.parametrize("name", ABSOLUTE)
def test_errors_of_angles_stay_within_the_promised(name: str) -> None:
    function, reference = ABSOLUTE[name]
    x = np.concatenate([samples(), np.geomspace(1, 3e38, 300_000, dtype=np.float32)])
    with np.errstate(all="ignore"):
        error = np.abs(compiled(name, x) - reference(x.astype(np.float64)))
    small = np.abs(x) < vmath.LARGE_ANGLE
    assert error[small].max() <= promised(function, r"error ([\d.e-]+) for")
    assert error[~small].max() <= promised(function, r"and ([\d.e-]+) beyond")


@pytest.mark.parametrize("name", EVERY)
def test_special_values_are_what_they_are_in_float64(name: str) -> None:
    with np.errstate(all="ignore"):
        exact = np.asarray(EVERY[name][1](SPECIAL.astype(np.float64))).astype(np.float32)
    found = compiled(name, SPECIAL)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
    endless = np.isinf(exact)
    np.testing.assert_array_equal(found[endless], exact[endless])
    if name not in ABSOLUTE:
        np.testing.assert_array_equal(found[exact == 0], 0)


@pytest.mark.parametrize("name", EVERY)
def test_all_levels_give_the_same_bits(name: str) -> None:
    kernels = library.load()
    assert kernels is not None
    x = np.concatenate([SPECIAL, samples(20_000)])
    usable = BUILT[: BUILT.index(CODE.get(kernels.level, kernels.level)) + 1]
    levels = [level for level in usable if "unary" in kernels_of(level)]
    first, *others = [compiled(name, x, level) for level in levels]
    for other in others:
        assert other.tobytes() == first.tobytes()


@pytest.mark.parametrize("name", EVERY)
def test_the_interpreted_twin_agrees(name: str) -> None:
    """It rounds a fused multiply-add twice at times, hence the two places."""
    x = np.concatenate([SPECIAL, samples(100)[:: len(SPECIAL)]])
    y = np.empty_like(x)
    with np.errstate(all="ignore"):
        run_kernel("unary", x, y, x.size, UNARY.index(name), 1.0, 1.0, backend="interpreted")
        found = compiled(name, x)
        np.testing.assert_allclose(y, found, rtol=3e-7, atol=1e-7 if name in ABSOLUTE else 1e-44)
