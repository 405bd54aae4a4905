"""What a launch is, and the sizes of the GPU that it is made for."""

from __future__ import annotations

from lightrnn.record import Record

SYNC_BYTES = 4 << 20
"""Memory at the `sync` argument: zeros at first, then the kernels' own from launch to launch."""
EPOCH, LEFT, COUNTERS, TAGGED, TILES = 0, 16, 32, 4096, 4096 + (1 << 17)
"""Where in its int64 words: the tag before a launch's first; how many blocks have left; counters,
16 words apart; tagged words; tiles. See `kernels.persistent`."""


class Gpu(Record):
    """The sizes of a GPU that launches depend on.

    shared_per_block: bytes of shared memory that one block may ask for at most.
    threads: threads of a block where a kernel takes any number; those that need a certain number
    are left aside where it is less.
    """

    multiprocessors: int
    shared_per_block: int
    threads: int = 256


class Launch(Record):
    """One kernel launch.

    symbol: the compiled kernel, a key of SYMBOLS. grid, block: numbers of blocks, and of threads
    of each. shared: bytes of dynamic shared memory. cooperative: all blocks must run at once.
    extra: integers that follow the words. words: all but a tail's, where they are not those of the
    instruction that is being launched.
    """

    symbol: str
    grid: int
    block: int
    shared: int = 0
    cooperative: bool = False
    extra: tuple[int, ...] = ()
    words: tuple[int, ...] | None = None


class Symbol(Record):
    """A compiled kernel.

    module: of `cuda.kernels`. kernel: the instruction whose parameters it has, then `extra`
    integers. threads: the most of a block. hot: whether its registers must not spill. resident:
    blocks that the registers of a multiprocessor must be enough for.
    """

    name: str
    module: str
    kernel: str
    extra: tuple[str, ...] = ()
    threads: int = 256
    hot: bool = False
    resident: int = 1


def ceil(n: int, d: int) -> int:
    """n / d, rounded up."""
    return -(-n // d)


def spread(symbol: str, items: int, gpu: Gpu, extra: tuple[int, ...] = ()) -> tuple[Launch, ...]:
    """One launch that deals `items` to threads, or none for none."""
    if items <= 0:
        return ()
    grid = min(ceil(items, gpu.threads), 16 * gpu.multiprocessors)
    return (Launch(symbol, grid, gpu.threads, extra=extra),)
