"""Sizes of convolutions and pools along axes of no fixed size."""

from __future__ import annotations

import itertools

import pytest

from lightrnn.ops.windows import Windows


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_axis_keeps_its_name_where_windows_keep_its_size(auto_pad: str, stride: int) -> None:
    for kernel, dilation, before, after in itertools.product((1, 2, 3), (1, 2), (0, 1), (0, 1, 2)):
        pads = (before, after) if auto_pad == "NOTSET" else ()
        windows = Windows((kernel,), (stride,), (dilation,), pads, auto_pad)
        keeps = all(windows.counts([size]) == (size,) for size in range(5, 9))
        assert windows.counts(["T"]) == ("T" if keeps else None,)


def test_each_axis_is_by_itself() -> None:
    windows = Windows((3, 3, 3), (1, 2, 1), (), (1, 1, 0, 1, 1, 0))
    assert windows.counts(["H", "W", "D"]) == ("H", None, None)
    assert windows.counts([7, 7, None]) == (7, 4, None)
