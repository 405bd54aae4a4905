"""Right-hand sides of products that are only known at run time, packed as `gemm` reads them."""

from __future__ import annotations

from lightrnn.kernels.copy import transpose_plane
from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import at, splat, store
from lightrnn.kernels.tiling import load_some
from lightrnn.native.abi import panel_rows

between = inlined(panel_rows)


@inlined
def _zeros(panel, k):
    for row in range(k):
        store(panel, row * 16, splat(0.0))


def pack_panels(b, panels, batch, k, n, row_stride, column_stride, b_step, ith, nth):
    """Pack `batch` matrices b [k, n], strides in elements, into panels, one after the other."""
    count = (n + 15) // 16
    first, last = share(batch * count, ith, nth)
    for item in range(first, last):
        i = item // count
        j = (item - i * count) * 16
        source, panel = at(b, i * b_step + j * column_stride), at(panels, item * between(k) * 16)
        width = min(16, n - j)
        if width < 16:
            _zeros(panel, k)
        if column_stride == 1:
            for row in range(k):
                store(panel, row * 16, load_some(source, row * row_stride, width))
        elif row_stride == 1:
            transpose_plane(source, 0, panel, 0, k, width, column_stride, 16)
        else:
            for row in range(k):
                for lane in range(width):
                    panel[row * 16 + lane] = source[row * row_stride + lane * column_stride]
