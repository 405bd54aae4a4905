"""Layers in fewer bits: who is quickest at a given error, as rows of the summary and as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bench.engines import ENGINES
from bench.results import Part, Result, against, geometric_mean, timed
from bench.selection import DTYPES
from bench.summary import Row, at_least

THEIR_BFLOAT16 = ("torch bfloat16", "openvino bfloat16")
OTHERS = tuple(name for name in ENGINES if not name.startswith("lightrnn"))
OWN = "lightrnn float32"
SPEED_AT_ERROR = {1e-3: {512: 2.5, 1024: 1.4}, 1e-4: {512: 2.5, 1024: 1.7}}
"""Asked in batch 1: by RMS error at most, by hidden size."""
INT8_LSTM = {256: ((1.2, 0.45), (2.0, 1.0)), 1024: ((1.1, 0.45),)}
"""Asked beside onnxruntime's int8, by hidden size: any of a speed at a share of its error."""


def rows(part: Part) -> Iterator[Row]:
    """What is asked of fewer bits."""
    alone = [r for r in timed(part.results) if r["batch"] == 1]
    many = [r for r in timed(part.results) if r["batch"] == 32]
    for limit, asked in SPEED_AT_ERROR.items():
        for hidden, least in asked.items():
            for op in ("LSTM", "GRU"):
                some = [r for r in alone if r["op"] == op and r["hidden"] == hidden]
                yield from _at_error(f"{op} {hidden}, batch 1, 100 steps", limit, least, some)
    amx = any(name.startswith("amx") for name in part.machine["extensions"])
    yield from _batches(many, amx=amx)
    yield from _int8_lstm(alone)
    own = [r for r in against(alone, [OWN]) if (r["op"], r["dtype"]) == ("GRU", "int8")]
    ratios = [r["ratio"] for r in own if r["hidden"] >= 512]
    yield from at_least("int8 GRU beside our float32, batch 1, H from 512", 3.0, ratios)


def quickest(results: Sequence[Result], limit: float) -> Result | None:
    """Of pairs that keep an error, lightrnn's best type beside the engine that is hardest on it."""
    kept = [r for r in against(results, OTHERS) if _error(r) < limit]
    by_dtype = [
        min(some, key=lambda r: r["ratio"])
        for dtype in DTYPES
        if (some := [r for r in kept if r["dtype"] == dtype])
    ]
    return max(by_dtype, key=lambda r: r["ratio"], default=None)


def _error(r: Result) -> float:
    return max(r["lightrnn_error"], r["engine_error"])


def _at_error(name: str, limit: float, asked: float, results: Sequence[Result]) -> Iterator[Row]:
    best = quickest(results, limit)
    if best is not None:
        measured = f"{best['ratio']:.2f}× ({best['dtype']} beside {best['engine']})"
        group = f"{name}, both errors under {limit:.0e}, any precision"
        yield Row(group, f"{asked:g}×", measured, len(results), best["ratio"] >= asked)


def _batches(results: Sequence[Result], *, amx: bool) -> Iterator[Row]:
    """Against bfloat16 of others in batch 32, which is asked where the CPU has AMX."""
    for dtype, asked in (("bfloat16", 1.0), ("int8", 1.3)):
        pairs = [r for r in against(results, THEIR_BFLOAT16) if r["dtype"] == dtype]
        if dtype == "int8":
            pairs = [r for r in pairs if r["lightrnn_error"]
                     <= 1.01 * (r["engine_error"] + r["rounding_error"])]  # fmt: skip
        best = [min(p["ratio"] for p in pairs if _layer(p) == key)
                for key in dict.fromkeys(map(_layer, pairs))]  # fmt: skip
        if best:
            mean = geometric_mean(best)
            group = f"batch 32, 50 steps, {dtype}, beside bfloat16 of torch and OpenVINO"
            measured = f"{mean:.2f}× ({min(best):.2f} to {max(best):.2f})"
            met = mean >= asked if amx else None
            asking = f"{asked:g}×" if amx else f"{asked:g}× with AMX"
            yield Row(group, asking, measured, len(best), met)


def _int8_lstm(results: Sequence[Result]) -> Iterator[Row]:
    for r in against(results, ["onnxruntime int8"]):
        if r["dtype"] == "int8" and r["hidden"] in INT8_LSTM:
            share, ways = r["lightrnn_error"] / r["engine_error"], INT8_LSTM[r["hidden"]]
            yield Row(
                f"int8 LSTM {r['hidden']} beside onnxruntime's int8, batch 1",
                " or ".join(f"{speed:g}× at {least:g} of its error" for speed, least in ways),
                f"{r['ratio']:.2f}× at {share:.2f}",
                1,
                any(r["ratio"] >= speed and share <= least for speed, least in ways),
            )


def _layer(r: Result) -> tuple[str, int, int, int]:
    return r["op"], r["hidden"], r["batch"], r["steps"]


def tables(results: Sequence[Result]) -> str:
    """lightrnn's types with their ratios to each engine, then the engines' times and errors."""
    found = timed(results)
    names = [e for e in (*OTHERS, OWN) if any(r["engine"] == e for r in found)]
    lines = [
        "| layer | H | batch | steps | lightrnn | µs | RMS error | of the weights alone | "
        + " | ".join(f"{name} / it" for name in names) + " |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |" + " ---: |" * len(names),
    ]  # fmt: skip
    keys = dict.fromkeys((*_layer(r), r["dtype"]) for r in found)
    for *layer, dtype in keys:
        some = {r["engine"]: r for r in found if [*_layer(r), r["dtype"]] == [*layer, dtype]}
        one = next(iter(some.values()))
        ratios = (f"{some[n]['ratio']:.2f}" if n in some else "" for n in names)
        rounding = f"{one['rounding_error']:.1e}" if "rounding_error" in one else ""
        lines.append(
            f"| {' | '.join(map(str, layer))} | {dtype} |"
            f" {statistics.median(r['lightrnn_us'] for r in some.values()):.0f} |"
            f" {one['lightrnn_error']:.1e} | {rounding} | {' | '.join(ratios)} |"
        )
    return "\n".join([*lines, "", *_engines(found)])


def _engines(found: Sequence[Result]) -> Iterator[str]:
    yield "| layer | H | batch | steps | engine | µs | RMS error |"
    yield "| --- | ---: | ---: | ---: | --- | ---: | ---: |"
    for key in dict.fromkeys((*_layer(r), r["engine"]) for r in found):
        some = [r for r in found if (*_layer(r), r["engine"]) == key]
        if not key[-1].startswith("lightrnn"):
            us = statistics.median(r["engine_us"] for r in some)
            yield f"| {' | '.join(map(str, key))} | {us:.0f} | {some[0]['engine_error']:.1e} |"
