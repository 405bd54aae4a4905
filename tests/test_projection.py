"""The kernel that projects a recurrent layer's inputs, and which thread makes which of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lightrnn.graph import Array
from lightrnn.kernels import sharing
from lightrnn.kernels.tiling import LIMITS
from lightrnn.native import abi
from lightrnn.ops.packing import LARGEST, gate_panels, padded, room_bytes
from tests.kernels import guarded, run_kernel

backends = pytest.mark.parametrize(
    "backend",
    ["interpreted", pytest.param("native", marks=pytest.mark.native)],
)
CASES = {
    "one row": (17, 1, 5, 20, 4, 1),
    "rows": (9, 8, 7, 16, 3, 1),
    "rows, few steps": (3, 17, 7, 16, 1, 1),
    "rows in tiles": (5, 32, 6, 20, 1, 1),
    "units": (3, 3, 4, 80, 4, 1),
    "both directions": (6, 4, 9, 18, 3, 2),
    "both directions, units": (2, 3, 4, 80, 3, 2),
    "no inputs": (4, 8, 0, 16, 3, 1),
    "no rows": (4, 0, 3, 16, 3, 1),
}
"""steps, batch, inputs, hidden, gates, directions"""
every = pytest.mark.parametrize("case", CASES)


class Projection:
    """The kernel's arguments for inputs of two more steps; a second direction's begin at step 2."""

    def __init__(self, case: str, stored: str = "float32", layout: int = 0) -> None:
        steps, batch, k, hidden, gates, directions = CASES[case]
        rng = np.random.default_rng(7)
        shape = (batch, steps + 2) if layout else (steps + 2, batch)
        self._x = rng.standard_normal((*shape, k)).astype(np.float32)
        w = rng.standard_normal((directions, gates * hidden, k)).astype(np.float32)
        width = gates * padded(hidden)
        bias = rng.standard_normal((directions, width)).astype(np.float32)
        self._packed = guarded(gate_panels(w, gates, stored), align=64), guarded(bias)
        self._shape = directions, steps, batch, width
        step, row = (k, shape[1] * k) if layout else (batch * k, k)
        self._room = room_bytes(directions * steps * batch, k, stored)
        self._sizes = [
            steps, batch, k, hidden, hidden, gates, directions, step, row, 2 * step,
            batch * width, steps * batch * width,
        ]  # fmt: skip
        self._kind = abi.WEIGHTS.index(stored)
        self.largest = k * np.abs(self._x).max(initial=0) * np.abs(w).max(initial=0)
        """Of a sum of products."""
        wide = np.zeros((directions, gates, padded(hidden), k))
        wide[:, :, :hidden] = w.reshape(directions, gates, hidden, k)
        x = np.asarray(self._x.swapaxes(0, 1) if layout else self._x, np.float64)
        self.expected = np.stack(
            [x[2 * d :][:steps] @ wide[d].reshape(width, k).T + bias[d] for d in range(directions)]
        )

    def args(self) -> tuple[list[Any], Array]:
        """The kernel's, and the xw among them, NaN everywhere."""
        xw = guarded(np.full(self._shape, np.nan, np.float32))
        room = np.zeros(self._room // 4, np.float32) if self._room else None
        return [self._kind, guarded(self._x), *self._packed, xw, room, *self._sizes], xw

    def made(self, backend: str, nth: int, threads: Sequence[int] | None = None) -> Array:
        """xw, NaN where nothing was written."""
        args, xw = self.args()
        run_kernel("project", *args, backend=backend, nth=nth, threads=threads)
        return xw


@backends
@every
@pytest.mark.parametrize("layout", [0, 1])
def test_projections(case: str, layout: int, backend: str) -> None:
    one = Projection(case, layout=layout)
    first = one.made(backend, 1)
    np.testing.assert_allclose(first, one.expected, rtol=0, atol=1e-5)
    for nth in (2, 3, 4):
        np.testing.assert_array_equal(one.made(backend, nth), first, err_msg=f"{nth} threads")


@backends
@every
@pytest.mark.parametrize("stored", ["int8", "int16"])
def test_projections_by_integers(case: str, stored: str, backend: str) -> None:
    one = Projection(case, stored)
    first = one.made(backend, 1)
    steps = 1 / LARGEST[stored] + 1 / LIMITS[stored]
    bound = 1e-5 + one.largest * steps / 2
    np.testing.assert_allclose(first, one.expected, rtol=0, atol=bound)
    np.testing.assert_array_equal(one.made(backend, 3), first)


@pytest.mark.native
@every
@pytest.mark.parametrize("nth", [2, 3, 4])
def test_who_reads_inputs_shares_made_them(case: str, nth: int) -> None:
    steps, batch, _, hidden, gates, directions = CASES[case]
    width, blocks, one = padded(hidden), padded(hidden) // 16, Projection(case)
    share: Any = sharing.my_share
    for ith in range(nth):
        made = one.made("native", nth, [ith])
        for d in range(directions):
            mode, row, end, first, last, _, _ = share(
                d, directions, batch, blocks, blocks, gates * width * hidden, ith, nth
            )
            if mode in (sharing.ROWS, sharing.UNITS):
                mine = np.zeros((steps, batch, gates, width), bool)
                mine[:, row:end, :, 16 * first : 16 * last] = True
                np.testing.assert_array_equal(~np.isnan(made[d]), mine.reshape(made[d].shape))


def test_cases_cover_all_ways_to_share() -> None:
    share: Any = sharing.sharing
    modes = {
        share(batch, padded(hidden) // 16, gates * padded(hidden) * hidden, 2 // directions)
        for _, batch, _, hidden, gates, directions in CASES.values()
    }
    assert modes == {sharing.ALONE, sharing.ROWS, sharing.UNITS}
