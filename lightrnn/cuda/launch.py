"""How kernels are launched: which compiled symbols an instruction needs, with what grid each.

Pure arithmetic on an instruction's words and the sizes of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from lightrnn.cuda import launch_gemm, launch_recurrent
from lightrnn.cuda.grid import Gpu, Launch, Symbol, ceil, spread
from lightrnn.cuda.launch_gemm import gemm, projections
from lightrnn.cuda.launch_persistent import GATES, abreast
from lightrnn.cuda.launch_recurrent import recurrent
from lightrnn.errors import NativeError
from lightrnn.native import abi
from lightrnn.record import replace


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
        "reduce": ("reduce_whole", "arg_reduce", "layer_norm"),
        "scores": ("additive_scores", "row_dots"),
        "crf": ("viterbi",),
        "rotary": ("rotate",),
    }  # fmt: skip
    symbols = [Symbol(n, module, n) for module, names in plain.items() for n in names]
    symbols += [
        Symbol(f"{kernel}_{form}", "reduce", kernel)
        for kernel in ("reduce", "softmax")
        for form in ("rows", "columns")
    ]
    symbols.append(Symbol("attention", "attention", "attention", ("queries", "keys")))
    return {s.name: s for s in (*symbols, *launch_gemm.SYMBOLS, *launch_recurrent.SYMBOLS)}


SYMBOLS: Mapping[str, Symbol] = _symbols()
"""Every compiled kernel by name."""

_WARP = 32
_MOST_BLOCKS = 1 << 20
_TILE = 32
"""Queries and keys that a block of attention stages at most."""

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


def side_by_side(
    name: str, layers: Sequence[Words], sync: int, table: int, gpu: Gpu
) -> Launch | None:
    """The launch of one recurrent instruction of each of several layers; None where none does it.

    name: of the instructions. layers: the words of each. table: the address of the same, tails as
    addresses, one layer's after the other's.
    """
    if name not in GATES:
        return None
    parameters = abi.KERNELS[name].parameters
    given = [{p.name: int(w) for p, w in zip(parameters, one, strict=False)} for one in layers]
    one = abreast(name, given, gpu)
    return one and replace(one, words=(0, sync, len(layers), table))


def is_supported(name: str) -> bool:
    """Whether a GPU runs instructions of this name."""
    return name in _RULES


def _by(items: Callable[[Mapping[str, int], Words], int], symbol: str) -> Rule:
    return lambda a, tail, gpu: spread(symbol, items(a, tail), gpu)


def _broadcast(symbol: str) -> Rule:
    return _by(lambda a, tail: prod(tail[: a["rank"]]), symbol)


def _rows(symbol: str, rows: int, n: int, gpu: Gpu) -> tuple[Launch, ...]:
    """A block for each row of n elements, with a word of shared memory for each thread."""
    if rows <= 0:
        return ()
    block = min(gpu.threads, max(ceil(n, _WARP) * _WARP, _WARP))
    return (Launch(symbol, min(rows, _MOST_BLOCKS), block, 4 * block),)


def _over(kernel: str) -> Rule:
    def rule(a: Mapping[str, int], tail: Words, gpu: Gpu) -> tuple[Launch, ...]:
        if a["inner"] == 1:
            return _rows(f"{kernel}_rows", a["outer"], a["n"], gpu)
        return spread(f"{kernel}_columns", a["outer"] * a["inner"], gpu)

    return rule


def _attention(a: Mapping[str, int], tail: Words, gpu: Gpu) -> tuple[Launch, ...]:
    """Blocks of as many queries and keys as fit in shared memory, at most 32 of each."""
    size, v_size = a["size"], a["v_size"]
    items = a["batch"] * a["heads"] * a["steps"] * v_size
    if items == 0:
        return ()
    queries, keys = min(_TILE, a["steps"]), _TILE
    while True:
        floats = queries * (5 + keys + 1 + size + 1 + v_size) + keys * (size + v_size + 2)
        if 4 * floats <= gpu.shared_per_block:
            break
        if queries == keys == 1:
            raise NativeError(
                f"attention over {size} and {v_size} elements a head needs {4 * floats} bytes of"
                f" shared memory, the GPU has {gpu.shared_per_block}"
            )
        queries, keys = ceil(queries, 2), ceil(keys, 2)
    grid = a["batch"] * a["heads"] * ceil(a["steps"], queries)
    return (Launch("attention", grid, gpu.threads, 4 * floats, extra=(queries, keys)),)


def _recurrent(kernel: str) -> Rule:
    return lambda a, tail, gpu: recurrent(kernel, a, gpu)


_RULES: dict[str, Rule] = {
    "copy_strided": _by(
        lambda a, tail: prod(tail[: a["rank"]]) * ceil(a["run"], 4), "copy_strided"
    ),
    "fill": _by(lambda a, tail: ceil(a["count"], 8), "fill"),
    "unary": _by(lambda a, tail: a["count"], "unary"),
    "binary": _broadcast("binary"),
    "compare": _broadcast("compare"),
    "whole_numbers": _broadcast("whole_numbers"),
    "logic": _broadcast("logic"),
    "logical_not": _by(lambda a, tail: a["count"], "logical_not"),
    "where": _broadcast("where"),
    "cast": _by(lambda a, tail: a["count"], "cast"),
    "gather_rows": _by(
        lambda a, tail: a["outer"] * a["count"] * ceil(a["row_bytes"], 4), "gather_rows"
    ),
    "gather_elements": _by(lambda a, tail: a["outer"] * a["count"] * a["inner"], "gather_elements"),
    "gather_tuples": _by(
        lambda a, tail: a["batch"] * a["count"] * ceil(a["row_bytes"], 4), "gather_tuples"
    ),
    "one_hot": _by(lambda a, tail: a["outer"] * a["depth"] * a["inner"], "one_hot"),
    "reverse_sequences": _by(
        lambda a, tail: a["steps"] * a["batch"] * ceil(a["row_bytes"], 4), "reverse_sequences"
    ),
    "pack_panels": _by(lambda a, tail: a["batch"] * a["k"] * ceil(a["n"], 16) * 16, "pack_panels"),
    "reduce": _over("reduce"),
    "softmax": _over("softmax"),
    "reduce_whole": _by(lambda a, tail: a["outer"] * a["inner"], "reduce_whole"),
    "arg_reduce": lambda a, tail, gpu: _rows("arg_reduce", a["outer"] * a["inner"], a["n"], gpu),
    "layer_norm": lambda a, tail, gpu: _rows("layer_norm", a["outer"], a["n"], gpu),
    "additive_scores": lambda a, tail, gpu: _rows(
        "additive_scores", prod(tail[: a["rank"]]), a["size"], gpu
    ),
    "row_dots": lambda a, tail, gpu: _rows("row_dots", prod(tail[: a["rank"]]), a["size"], gpu),
    "viterbi": lambda a, tail, gpu: _rows("viterbi", a["batch"], a["labels"], gpu),
    "rotate": _by(lambda a, tail: a["rows"] * a["heads"] * (a["size"] - a["half"]), "rotate"),
    "attention": _attention,
    "gemm": lambda a, tail, gpu: gemm(a, gpu),
    "project": lambda a, tail, gpu: projections(a, gpu),
    "lstm": _recurrent("lstm"),
    "gru": _recurrent("gru"),
    "rnn": _recurrent("rnn"),
}
