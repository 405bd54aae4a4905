"""The page of the docs about GPU kernels: what each uses of the chip.

python -m tests.cuda_page docs/cuda-kernels.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from lightrnn.cuda.build import TARGETS, build
from lightrnn.cuda.image import PACKAGED, Images
from lightrnn.cuda.launch import SYMBOLS
from lightrnn.errors import NativeError

PAGE = """\
# GPU kernels

<!-- Written by `python -m tests.cuda_page docs/cuda-kernels.md`. -->

Each kernel is a Python function of `lightrnn/cuda/kernels`, compiled by numba-cuda to one PTX for
sm_80 and assembled for sm_80 and sm_90, by {toolkit}.
The cubins need a driver for CUDA 13 (580 or newer).

An instruction of a plan is one launch of the kernel of its name, or those that
`lightrnn/cuda/launch.py` chooses: products of few rows or in tiles of 64 or 128, recurrent layers
step by step (`*_cell` after a product) or a whole sequence at once (`lstm_1`, `lstm_8`, `lstm_32`:
the rows of a tile); `*_abreast` do chunks of several layers one upon the other. Without a GPU
kernels run as Python in `tests/cuda_simulator.py`, and compiled, from their PTX, in
`tests/emulator`.

## What they use

Registers a thread, bytes of its stack and bytes of registers spilled, on each target; the most
threads of a block. Nothing may spill in a kernel whose name is bold. Shared memory is dynamic, and
depends on the sizes.

{table}
## The floor of a recurrent step

One launch does a whole sequence; a step takes at least the sum of

- **the exchange** of the state between multiprocessors. A single row's elements travel as 8-byte
  words, each with the number of its step, so that a reader waits for the data itself: one write to
  L2 and one read of it. Tiles of rows travel as floats, followed by a counter: two more trips.
- **the product**, the larger of three times. With K the state's size, Q units of a block and R rows
  of a tile, a block reads 16 K Q bytes of weights from shared memory (128 bytes a clock), does
  4 K Q R multiply-adds (128 a clock) and, for tiles, reads 4 K R bytes of the state from L2 (about
  24 bytes a clock for each multiprocessor when all of them read).
- two barriers of the block, and the cell itself.

For an LSTM on a GPU with 132 multiprocessors at 1.75 GHz that share L2 so, computed, not measured:

{floors}
The exchange is what `lightrnn/cuda/launch_persistent.py` supposes it to be. Larger layers, those
with a projection, and GRUs whose reset gate comes before the product run step by step.
"""


def page(images: Images) -> str:
    """The page for an archive of kernels."""
    toolkit = ", ".join(f"{name} {version}" for name, version in images.toolkit.items())
    return PAGE.format(toolkit=toolkit, table=table(images), floors=floors())


def table(images: Images) -> str:
    """A row for each compiled kernel."""
    lines = [
        "| kernel | threads | "
        + " | ".join(f"{t}: registers, stack, spills" for t in TARGETS)
        + " |",
        "| --- | --- |" + " --- |" * len(TARGETS),
    ]
    for name, symbol in sorted(SYMBOLS.items()):
        used = images.resources[name]
        cells = [
            ", ".join(str(used[t][key]) for key in ("registers", "stack", "spills"))
            for t in TARGETS
        ]
        shown = f"**{name}**" if symbol.hot else name
        lines.append(f"| {shown} | {symbol.threads} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def floors() -> str:
    """A row for each size of an LSTM on an H100."""
    from lightrnn.cuda.grid import Gpu
    from lightrnn.cuda.launch_persistent import best_split

    gpu = Gpu(multiprocessors=132, shared_per_block=227 * 1024)
    lines = ["| hidden | batch | kernel | blocks | units of a block | shared bytes | step, µs |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for batch in (1, 8, 32, 128):
        for hidden in (128, 256, 512, 1024):
            a = {"hidden": hidden, "directions": 1, "batch": batch, "steps": 512}
            split = best_split("lstm", a, gpu, 1)
            if split is None:
                lines.append(f"| {hidden} | {batch} | step by step | | | | |")
                continue
            blocks, micros = split.slices * split.groups, split.clocks / 1750
            lines.append(
                f"| {hidden} | {batch} | lstm_{split.rows} | {blocks} | {split.units}"
                f" | {split.shared:,} | {micros:.1f} |"
            )
    return "\n".join(lines) + "\n"


def current() -> Images:
    """The packaged archive, built first where it is missing or stale. Raises NativeError."""
    try:
        return Images(PACKAGED)
    except NativeError:
        return Images(str(build(PACKAGED)))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(current()))
