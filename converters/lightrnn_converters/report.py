"""How far the results of a model are from those of its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightrnn.graph import Array

if TYPE_CHECKING:
    from lightrnn_converters.bisect import Bisection

RTOL = 1e-5
ATOL = 1e-5
_LAST_PLACES = 4
"""How many units in the last place results may be apart, which counts for float16 alone."""


@dataclass(frozen=True)
class OutputReport:
    """One output at one set of inputs.

    max_abs: the largest difference; inf where shapes, types, NaNs or infinities differ.
    max_rel: that over the largest magnitude of the reference.
    where: the index of the largest difference, None where there is none.
    note: what else differs: "", or a few words.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    where: tuple[int, ...] | None
    passed: bool
    note: str = ""

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "DIFFERS"
        shape = "x".join(map(str, self.shape)) or "scalar"
        where = "" if self.where is None else f" at {list(self.where)}"
        note = f" ({self.note})" if self.note else ""
        return (
            f"{self.name:<20} {self.dtype:<8} {shape:<14} max abs {self.max_abs:9.2e}"
            f"  max rel {self.max_rel:9.2e}  {verdict}{'' if self.passed else where}{note}"
        )


@dataclass(frozen=True)
class Report:
    """All outputs at all sets of inputs. str() is a table, one line each.

    bisection: where the model begins to differ, if that was asked for and it does; its str() says.
    """

    outputs: tuple[OutputReport, ...]
    bisection: Bisection | None = None

    @property
    def passed(self) -> bool:
        """Whether something was compared and all of it agrees."""
        return bool(self.outputs) and all(o.passed for o in self.outputs)

    @property
    def failures(self) -> tuple[OutputReport, ...]:
        return tuple(o for o in self.outputs if not o.passed)

    def __str__(self) -> str:
        lines = [str(o) for o in self.outputs]
        return "\n".join(lines if self.bisection is None else [*lines, str(self.bisection)])


def compare(
    found: Mapping[str, Array], wanted: Mapping[str, Array], rtol: float = RTOL, atol: float = ATOL
) -> Iterable[OutputReport]:
    """Compare outputs by name.

    Floats pass where no difference exceeds atol + rtol * the largest finite magnitude wanted, or
    a few units in the last place of that; other types must be equal, NaN equals NaN.
    """
    for name, want in wanted.items():
        yield _compare(name, np.asarray(found[name]), np.asarray(want), rtol, atol)


def _compare(name: str, found: Array, want: Array, rtol: float, atol: float) -> OutputReport:
    kinds = (("shape", found.shape, want.shape), ("dtype", found.dtype, want.dtype))
    for what, given, expected in kinds:
        if given != expected:
            note = f"{what} is {given}, expected {expected}"
            return OutputReport(
                name, found.dtype.name, found.shape, np.inf, np.inf, None, False, note
            )
    a, b = found.astype(np.float64), want.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    error = np.where(np.isnan(error), np.inf, error)
    if not error.size:
        return OutputReport(name, found.dtype.name, found.shape, 0.0, 0.0, None, True)
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    worst = float(error.max())
    where = tuple(int(k) for k in np.unravel_index(int(error.argmax()), error.shape))
    bound = 0.0
    if found.dtype.kind == "f":
        bound = atol + max(rtol, _LAST_PLACES * float(np.finfo(found.dtype).eps)) * scale
    return OutputReport(
        name, found.dtype.name, found.shape, worst, worst / scale if scale else worst,
        where, worst <= bound,
    )  # fmt: skip
