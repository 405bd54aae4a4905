"""How kernels are launched: which compiled symbols an instruction needs, with what grid each.

Pure arithmetic on an instruction's words and the sizes of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from lightrnn.errors import NativeError
from lightrnn.native import abi
from lightrnn.record import Record

WARP = 32


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
    extra: integers that follow the instruction's own words. sync: int64 words that the kernel
    needs at its `sync` argument, zero before the first launch that ever sees them, and its own
    between launches.
    """

    symbol: str
    grid: int
    block: int
    shared: int = 0
    cooperative: bool = False
    extra: tuple[int, ...] = ()
    sync: int = 0


class Symbol(Record):
    """A compiled kernel.

    module: of `cuda.kernels`. kernel: its instruction, whose parameters it has, then `extra`
    integers. threads: the most of a block. hot: whether its registers must not spill.
    """

    name: str
    module: str
    kernel: str
    extra: tuple[str, ...] = ()
    threads: int = 256
    hot: bool = False


def _symbols() -> dict[str, Symbol]:
    plain = {
        "copy": ("copy_strided", "fill"),
        "elementwise": (
            "unary", "binary", "compare", "whole_numbers", "logic", "logical_not", "where", "cast",
        ),
        "gather": (
            "gather_rows", "gather_elements", "gather_tuples", "one_hot", "reverse_sequences",
        ),
        "gemm": ("pack_panels",),
    }  # fmt: skip
    symbols = [Symbol(n, module, n) for module, names in plain.items() for n in names]
    symbols += [
        Symbol(f"gemm_{form}", "gemm", "gemm", hot=True)
        for form in ("tile_64", "tile_128", "rows_1", "rows_4")
    ]
    return {s.name: s for s in symbols}


SYMBOLS: Mapping[str, Symbol] = _symbols()
"""Every compiled kernel by name."""

Words = Sequence[int]
Rule = Callable[[Mapping[str, int], Words, Gpu], tuple[Launch, ...]]


def launch(name: str, args: Words, gpu: Gpu) -> tuple[Launch, ...]:
    """The launches that do one instruction, in order; none where there is nothing to do.

    name: of the instruction, a key of abi.KERNELS. args: its words. Raises NativeError.
    """
    rule = _RULES.get(name)
    if rule is None:
        raise NativeError(f"no GPU kernel for {name}, expected one of {', '.join(sorted(_RULES))}")
    parameters = abi.KERNELS[name].parameters
    tail = next((k for k, p in enumerate(parameters) if p.kind == "tail"), len(parameters))
    given = {p.name: int(args[k]) for k, p in enumerate(parameters[:tail])}
    return rule(given, args[tail:], gpu)


def is_supported(name: str) -> bool:
    """Whether a GPU runs instructions of this name."""
    return name in _RULES


def _ceil(n: int, d: int) -> int:
    return -(-n // d)


def spread(symbol: str, items: int, gpu: Gpu, **more: int) -> tuple[Launch, ...]:
    """One launch that deals `items` to threads, or none for none."""
    if items <= 0:
        return ()
    grid = min(_ceil(items, gpu.threads), 16 * gpu.multiprocessors)
    return (Launch(symbol, grid, gpu.threads, **more),)


def _by(items: Callable[[Mapping[str, int], Words], int], symbol: str) -> Rule:
    return lambda a, tail, gpu: spread(symbol, items(a, tail), gpu)


def _broadcast(symbol: str) -> Rule:
    return _by(lambda a, tail: prod(tail[: a["rank"]]), symbol)


_TILE_SHARED = {size: 4 * 8 * (2 * size + 4) for size in (64, 128)}
_FEW_ROWS = 16
"""Rows up to which a product is bound by reading its weights."""


def _gemm(a: Mapping[str, int], tail: Words, gpu: Gpu) -> tuple[Launch, ...]:
    batch, m, n = a["batch"], a["m"], a["n"]
    if abi.WEIGHTS[a["kind"]] == "int8":
        raise NativeError("a GPU has no product with int8 weights; expected them as float32")
    if batch * m * n == 0:
        return ()
    if m <= _FEW_ROWS or gpu.threads < 256:
        rows = 1 if m == 1 else 4
        grid, block = batch * _ceil(m, rows) * _ceil(n, 16), max(gpu.threads // 4 * 4, 4)
        return (Launch(f"gemm_rows_{rows}", grid, block, block * rows * 16),)
    size = 128
    if batch * _ceil(m, 128) * _ceil(n, 128) < gpu.multiprocessors:
        size = 64
    grid = batch * _ceil(m, size) * _ceil(n, size)
    return (Launch(f"gemm_tile_{size}", grid, 256, _TILE_SHARED[size]),)


_RULES: dict[str, Rule] = {
    "copy_strided": _by(
        lambda a, tail: prod(tail[: a["rank"]]) * _ceil(a["run"], 4), "copy_strided"
    ),
    "fill": _by(lambda a, tail: _ceil(a["count"], 8), "fill"),
    "unary": _by(lambda a, tail: a["count"], "unary"),
    "binary": _broadcast("binary"),
    "compare": _broadcast("compare"),
    "whole_numbers": _broadcast("whole_numbers"),
    "logic": _broadcast("logic"),
    "logical_not": _by(lambda a, tail: a["count"], "logical_not"),
    "where": _broadcast("where"),
    "cast": _by(lambda a, tail: a["count"], "cast"),
    "gather_rows": _by(
        lambda a, tail: a["outer"] * a["count"] * _ceil(a["row_bytes"], 4), "gather_rows"
    ),
    "gather_elements": _by(lambda a, tail: a["outer"] * a["count"] * a["inner"], "gather_elements"),
    "gather_tuples": _by(
        lambda a, tail: a["batch"] * a["count"] * _ceil(a["row_bytes"], 4), "gather_tuples"
    ),
    "one_hot": _by(lambda a, tail: a["outer"] * a["depth"] * a["inner"], "one_hot"),
    "reverse_sequences": _by(
        lambda a, tail: a["steps"] * a["batch"] * _ceil(a["row_bytes"], 4), "reverse_sequences"
    ),
    "pack_panels": _by(lambda a, tail: a["batch"] * a["k"] * _ceil(a["n"], 16) * 16, "pack_panels"),
    "gemm": _gemm,
}
