"""Which cells a full and a quick run measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.cells import Attention, Layer, Step, Whole

OPS = ("LSTM", "GRU", "RNN")
SIZES = (32, 64, 100, 128, 256, 500, 512, 1024)
MOST = 2e9
"""Multiply-adds of a layer's run at most: more take a tenth of a second and longer."""
DTYPES = ("float32", "float16", "bfloat16", "int16", "int16+int8", "int8")
TWO_THREADS_FROM = 20
"""Steps: a single one is nobody's reason for a second thread."""


def layers(quick: bool, threads: Sequence[int] = (1, 2)) -> Iterator[Layer]:
    """Float32 layers; all sizes and lengths in batch 1, every other in larger batches."""
    for cell in _quick_layers() if quick else _layers():
        if cell.multiplies <= MOST:
            yield from (
                replace(cell, threads=n)
                for n in threads
                if n == 1 or (cell.steps >= TWO_THREADS_FROM and _for_two_threads(cell))
            )


def _quick_layers() -> Iterator[Layer]:
    for op in OPS:
        for hidden in (64, 256, 512):
            yield from (Layer(op, hidden, 1, steps) for steps in (1, 100))
            yield Layer(op, hidden, 8, 20)
        yield Layer(op, 64, 4, 20, directions=2)


def _layers() -> Iterator[Layer]:
    batches = {1: (1, 20, 100, 500), 4: (1, 20, 100), 8: (20, 100), 32: (20, 100)}
    sizes = {
        1: SIZES, 4: (32, 100, 256, 512), 8: (64, 128, 256, 500, 1024), 32: (32, 64, 128, 256, 512),
    }  # fmt: skip
    for op in OPS:
        for batch, lengths in batches.items():
            for hidden in sizes[batch]:
                yield from (Layer(op, hidden, batch, steps) for steps in lengths)
        for hidden in (64, 256):
            yield from (Layer(op, hidden, batch, 100, directions=2) for batch in (1, 8))


def _for_two_threads(cell: Layer) -> bool:
    return cell.hidden in (64, 256, 500, 512, 1024) and cell.steps in (20, 100)


def steps(quick: bool) -> Iterator[Step]:
    """One step of a layer in the three ways."""
    for op in OPS[:1] if quick else OPS:
        for hidden in (16, 64, 256) if quick else (16, 32, 64, 128, 256):
            yield from (Step(op, hidden, way) for way in ("run", "states", "stream"))


def attention(quick: bool, threads: Sequence[int] = (1, 2)) -> Iterator[Attention]:
    """One query, and as many queries as keys; a batch of single queries."""
    for kind in ("multi-head", "additive", "concatenated"):
        for keys in (16, 512) if quick else (16, 64, 128, 512):
            if kind == "concatenated":
                yield from (Attention(kind, 1, keys, n) for n in (1, 8))
                continue
            many = keys if kind == "multi-head" else min(keys, 64)
            for queries, batch in ((1, 1), (many, 1), *(() if quick else ((1, 8),))):
                counts = threads if queries > 1 and keys >= 128 else threads[:1]
                yield from (Attention(kind, queries, keys, batch, n) for n in counts)


def models(quick: bool, threads: Sequence[int] = (1, 2)) -> Iterator[Whole]:
    """Whole models in float32, alone and in batches, and in int8."""
    identifier, decoder, characters = "language identifier", "decoder step", "character model"
    wholes = [
        Whole(identifier, 1, 20), Whole(identifier, 1, 100), Whole(identifier, 32, 60),
        Whole(decoder, 1, 10, "states"), Whole(decoder, 5, 10, "states"),
        Whole(decoder, 64, 10, "states"),
        Whole("audio stream", 1, 576, "states"), Whole("audio stream", 1, 576, "stream"),
        Whole(characters, 1, 400),
    ]  # fmt: skip
    for whole in wholes[::2] if quick else wholes:
        yield whole
        if whole.batch >= 32 or whole.model == characters:
            yield from (replace(whole, threads=n) for n in threads if n > 1)
        if not quick:
            yield replace(whole, dtype="int8")


def precision(quick: bool) -> Iterator[Layer]:
    """Layers in each storage type: long sequences alone and shorter ones in a batch of 32."""
    for op in OPS[:1] if quick else OPS[:2]:
        for hidden in (256, 512) if quick else (256, 512, 1024):
            for batch, length in ((1, 100),) if quick else ((1, 100), (32, 50)):
                yield from (Layer(op, hidden, batch, length, dtype=dtype) for dtype in DTYPES)
