"""Two tiles at once: one whose time is that of reading weights, one that is all arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from lightrnn.kernels import integers, simd
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import LOADS, PAIRS, RUNS
from lightrnn.native.abi import RUN


def make_pair_tile(panels: int, rows: int, stored: str = "float32") -> Callable[..., Any]:
    """A function that computes two tiles at once: a row's, whose time is that of reading b, and
    another's, whose arithmetic is done in that time.

    c = init + a·b: one row, `panels` panels of [k, 16], 16 * `step` apart; init, c as in
    `make_tile`. out = bias + x·w: `rows` rows, `ldx` apart in x and `ldo` apart in out, by one
    panel of [depth, 16]; bias [16] is for all of them, null for zeros.
    stored: how b is stored, or "bytes" for abi.BYTES. w is float32 where that is float32, float16
    or bfloat16, int8 for "bytes", int16 for int8 and int16. With integers k and depth count quads,
    a and x hold what `gemm.quantize` gives; for int8 a's high and low bytes, for "bytes" low ones
    and x's raised pairs.
    """
    lines = ["def pair_tile(a, b, step, k, init, c, x, ldx, w, depth, bias, out, ldo):"]
    scope: dict[str, Any] = {**vars(simd), **vars(integers), "address_of": address_of}
    if stored not in LOADS:
        lines += _integer_pair_lines(panels, rows, stored)
        scope |= _FROM_MEMORY
    else:
        lines += _float_pair_lines(panels, rows, stored)
    exec(compile("\n".join(lines) + "\n", f"<pair tile {stored}>", "exec"), scope)
    return inlined(scope["pair_tile"])


def _pair_loops(reads: list[str], shaded: list[str], run: int) -> list[str]:
    """A run of both sums, the longer of them by itself at its end.

    Their lines alternate: what waits for memory is never more than half of what is in flight.
    """
    mixed = [line for pair in zip_longest(reads, shaded) for line in pair if line is not None]
    return [
        f"        end = start + {run}",
        "        both = min(k, depth, end)",
        "        for i in range(start, both):",
        *(f"            {line}" for line in mixed),
        "        for i in range(max(start, both), min(k, end)):",
        *(f"            {line}" for line in reads),
        "        for i in range(max(start, both), min(depth, end)):",
        *(f"            {line}" for line in shaded),
    ]


def _float_pair_lines(panels: int, rows: int, stored: str) -> list[str]:
    load = LOADS[stored]
    reads = ["v = broadcast(a, i)"]
    reads += [f"c{p} = fma(v, {load}(b, ({p} * step + i) * 16), c{p})" for p in range(panels)]
    shaded = ["u = load(w, i * 16)"]
    shaded += [f"d{r} = fma(broadcast(x, {r} * ldx + i), u, d{r})" for r in range(rows)]
    return [
        "    start = 0",
        "    while start < max(k, depth):",
        *(f"        c{p} = splat(0.0)" for p in range(panels)),
        *(f"        d{r} = splat(0.0)" for r in range(rows)),
        *_pair_loops(reads, shaded, RUN),
        "        if start < k:",
        "            source = init if start == 0 else c",
        "            if not null(source):",
        *(f"                c{p} = load(source, {16 * p}) + c{p}" for p in range(panels)),
        *(f"            store(c, {16 * p}, c{p})" for p in range(panels)),
        "        if start < depth:",
        "            source, ld = (bias, 0) if start == 0 else (out, ldo)",
        "            if not null(source):",
        *(f"                d{r} = load(source, {r} * ld) + d{r}" for r in range(rows)),
        *(f"            store(out, {r} * ldo, d{r})" for r in range(rows)),
        "        start = end",
    ]


_PLACES = ((0, 0), (0, 1), (2, 0), (3, 0), (0, 4), (3, 2), (2, 4), (3, 4))
"""Of eight things at equal steps, which of three places one is reached from, and in how many."""
_FROM_MEMORY = {
    f"pairs_{'one' if one else 'all'}_{times}_{offset}": integers.pairs_at(times, offset, one=one)
    for one in (True, False)
    for times in (0, 1, 2, 4)
    for offset in ((0, 4) if one else (0, 64))
} | {
    f"sum_{times}_{offset}": integers.sum_at(times, offset)
    for times in (0, 1, 2, 4)
    for offset in (0, 4)
}


def _raised_lines(rows: int) -> list[str]:
    """A quad of w by those of the rows: four products in the time of three.

    x0 w0 + x1 w1 = (x0 + w1) (x1 + w0) - x0 x1 - w0 w1: Winograd, A New Algorithm for Inner
    Product, 1968. One addition makes two factors, pairs being raised so far that nothing carries.
    """
    lines = ["u = load_words(w, 64 * i)", "e = even_bytes(u)", "u = odd_bytes(u)"]
    for r, (base, times) in zip(range(rows), _PLACES, strict=True):
        lines += [f"f = sum_{times}_0(u, x{base}, 4 * ldx)"]
        lines += [f"d{r} = dot_pairs(f, sum_{times}_4(e, x{base}, 4 * ldx), d{r})"]
    return lines


def _reading_lines(panels: int, stored: str, nbytes: int) -> list[str]:
    """A quad of the row by those of its panels."""
    places = [f"{p} * 16 * step + {nbytes} * i" for p in range(panels)]
    if stored == "bytes":
        lines = ["v = broadcast_int(a, k + i)"]
        return lines + [
            f"c{p} = dot_bytes(load_words(b, {q}), v, c{p})" for p, q in enumerate(places)
        ]
    if stored == "int8":
        lines = ["v = broadcast_int(a, k + i)", "q = broadcast_int(a, i)"]
        for p, place in enumerate(places):
            lines += [f"g = load_words(b, {place})", f"c{p} = dot_bytes(g, v, c{p})"]
            lines += [f"h{p} = dot_bytes(g, q, h{p})"]
        return lines
    lines = [f"b{g} = at(b, {g} * 16 * step + {nbytes} * i)" for g in (0, 2, 3)]
    for half in (0, 1):
        lines += [f"v = broadcast_int(a, 2 * i + {half})"]
        for p, (base, times) in zip(range(panels), _PLACES, strict=False):
            name = f"pairs_all_{times}_{64 * half}"
            lines += [f"c{p} = {name}(v, b{base}, 16 * step, c{p})"]
    return lines


def _shaded_lines(rows: int, other: str) -> list[str]:
    """A quad of w by those of the rows."""
    lines = [f"x{g} = at(u8(address_of(x)), 4 * ({g} * ldx + 2 * i))" for g in (0, 2, 3)]
    if other == "int8":
        return lines + _raised_lines(rows)
    for half, pairs in enumerate(PAIRS[other][1:]):
        lines += [f"u = {pairs.replace('(b,', '(w,').format(f'{PAIRS[other][0]} * i')}"]
        for r, (base, times) in zip(range(rows), _PLACES, strict=True):
            lines += [f"d{r} = pairs_one_{times}_{4 * half}(u, x{base}, 4 * ldx, d{r})"]
    return lines


def _integer_pair_lines(panels: int, rows: int, stored: str) -> list[str]:
    kept = "int8" if stored == "bytes" else stored
    other = "int8" if stored == "bytes" else "int16"
    nbytes, w_bytes = PAIRS[kept][0], PAIRS[other][0]
    run, w_run = RUNS[kept] // 4, RUNS[other] // 4
    begin = f"broadcast_int(a, 2 * k + 1 + start // {run})"
    halves = ["c", "h"] if stored == "int8" else ["c"]
    lines = [f"    s{p} = load(f32(address_of(b) + {p} * 16 * step + {nbytes} * k), 0)"
             for p in range(panels)]  # fmt: skip
    lines += [f"    s = load(f32(address_of(w) + {w_bytes} * depth), 0)", "    start = 0"]
    zeros = [f"    {c}{p} = splat_int(0)" for c in halves for p in range(panels)]
    begins, ends = "start < k", "start < k"
    if run != w_run:
        begins = f"start < k and start % {run} == 0"
        ends = f"start < k and (end >= k or end % {run} == 0)"
        lines += zeros
    lines += ["    while start < max(k, depth):"]
    lines += [f"    {zero}" for zero in zeros if run == w_run]
    if kept == "int8":
        lines += [f"        if {begins}:"]
        lines += [f"            c{p} = {begin}" for p in range(panels)]
        lines += [f"            h{p} = splat_int(0)" for p in range(panels) if "h" in halves]
    lines += [f"        d{r} = splat_int(0)" for r in range(rows)]
    if other == "int8":
        lines += ["        if start < depth:"]
        for r in range(rows):
            place = f"{r} * ldx + 2 * depth + 1 + start // {w_run}"
            lines += [f"            d{r} = broadcast_int(x, {place})"]
    reads, shaded = _reading_lines(panels, stored, nbytes), _shaded_lines(rows, other)
    lines += _pair_loops(reads, shaded, w_run)
    lines += [f"        if {ends}:"]
    lines += [f"            source = init if start < {run} else c"]
    lines += ["            v = broadcast(f32(address_of(a) + 8 * k), 0)"]
    for p in range(panels):
        total = f"c{p} + (h{p} << splat_int(8))" if "h" in halves else f"c{p}"
        lines += [
            "            t = splat(0.0)",
            "            if not null(source):",
            f"                t = load(source, {16 * p})",
            f"            store(c, {16 * p}, fma(to_float({total}), v * s{p}, t))",
        ]
    lines += ["        if start < depth:"]
    lines += ["            source, ld = (bias, 0) if start == 0 else (out, ldo)"]
    if other == "int8":
        place = f"{w_bytes} * depth + 64 + 64 * (start // {w_run})"
        lines += [f"            u = load_words(w, {place})"]
        lines += [f"            d{r} = d{r} - u" for r in range(rows)]
    for r in range(rows):
        lines += [
            f"            v = broadcast(f32(address_of(x) + 4 * ({r} * ldx + 2 * depth)), 0)",
            "            t = splat(0.0)",
            "            if not null(source):",
            f"                t = load(source, {r} * ld)",
            f"            store(out, {r} * ldo, fma(to_float(d{r}), v * s, t))",
        ]
    return [*lines, "        start = end"]
