"""Launches of recurrent layers that do a whole sequence at once: how it is split over blocks.

Times are estimates in clocks of one multiprocessor, to choose between splits, no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lightrnn.cuda.grid import COUNTERS, SYNC_BYTES, TAGGED, TILES, Gpu, Launch, Symbol, ceil
from lightrnn.record import Record

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
FORMS = {1: (1, 1), 8: (8, 1), 32: (8, 4)}
"""Rows of a tile: how many of them a thread multiplies, and how many threads share them."""
EXTRA = ("units", "groups", "fold", "direction")
ABREAST = ("units", "groups", "fold", "most")
"""The same for several layers, whose own words are the ranges of `side_by_side`, one after the
other; most: the steps of the one that has most."""
ABREAST_FORMS = (1, 8)
_THREADS = 256
SYMBOLS = tuple(
    Symbol(f"{cell}_{rows}", "persistent", cell, EXTRA, threads=_THREADS, hot=True)
    for cell in GATES
    for rows in FORMS
) + tuple(
    Symbol(f"{cell}_{rows}_abreast", "persistent", "side_by_side", ABREAST, _THREADS, hot=True)
    for cell in GATES
    for rows in ABREAST_FORMS
)
_FEWEST_STEPS = 3
"""Steps from which on keeping the weights pays for loading them."""
_MOST_TURNS = 4
"""Rows that a block may do one after the other all the same, to spare a launch a step."""
_UNITS = (1, 2, 4, 8, 16, 32, 64)
_WARP = 32
_TAGGED_CLOCKS, _COUNTED_CLOCKS = 1300, 2200
"""From a block's state to all others': by tagged words, and by a counter."""
_FMA, _SHARED, _L2 = 128, 128, 24
"""Multiply-adds, bytes of shared memory and bytes of L2 that a multiprocessor does in a clock."""


class Split(Record):
    """How a layer is split over blocks.

    rows: of a tile. units: of a block. slices: blocks that share a tile. groups: of tiles that run
    side by side. fold: threads of a warp that add up. shared: bytes of a block. clocks: of a step.
    """

    rows: int
    units: int
    slices: int
    groups: int
    threads: int
    fold: int
    shared: int
    clocks: float


def persistent(cell: str, a: Mapping[str, int], gpu: Gpu) -> tuple[Launch, ...]:
    """The launches of a whole sequence; none where a layer does not fit, or would not gain.

    Directions run at once where they fit together, else one after the other.
    """
    directions = a["directions"]
    for together in dict.fromkeys((directions, 1)):
        best = best_split(cell, a, gpu, together)
        if best is not None:
            starts = range(0, directions, together)
            return tuple(_launch(cell, best, a, together, d) for d in starts)
    return ()


def _launch(cell: str, split: Split, a: Mapping[str, int], together: int, d: int) -> Launch:
    """The launch of directions from d on."""
    grid = together * split.slices * split.groups
    extra = (split.units, split.groups, split.fold, d)
    symbol, waits = f"{cell}_{split.rows}", a["steps"] > 1
    return Launch(symbol, grid, split.threads, split.shared, cooperative=waits, extra=extra)


def abreast(cell: str, layers: Sequence[Mapping[str, int]], gpu: Gpu) -> Launch | None:
    """The launch of chunks of several layers, of one direction each; None where they do not fit.

    layers: their arguments by name.
    """
    first, most = layers[0], max(a["steps"] for a in layers)
    sizes = ("batch", "hidden", "directions")
    if any(a[name] != first[name] for a in layers for name in sizes) or first["directions"] != 1:
        return None
    if any(not a["steps"] or a.get("projection") or not a.get("after", 1) for a in layers):
        return None
    together = {**first, "steps": most, "directions": len(layers)}
    split = best_split(cell, together, gpu, len(layers), ABREAST_FORMS)
    if split is None:
        return None
    grid, extra = len(layers) * split.slices * split.groups, (split.units, split.groups, split.fold)
    return Launch(
        f"{cell}_{split.rows}_abreast", grid, split.threads, split.shared, cooperative=True,
        extra=(*extra, most),
    )  # fmt: skip


def best_split(
    cell: str, a: Mapping[str, int], gpu: Gpu, together: int, forms: Iterable[int] = FORMS
) -> Split | None:
    """The split of a layer that takes the least time; None where none fits or would gain.

    together: directions, or layers, that run at once.
    """
    if a.get("projection") or not a.get("after", 1):
        return None
    few = a["steps"] < _FEWEST_STEPS
    forms = [rows for rows in forms if not (few and rows > 1)]
    splits = [s for rows in forms for s in _splits(cell, rows, a, gpu, together)]
    if few:
        splits = [s for s in splits if s.groups * _MOST_TURNS >= a["batch"]]
    return min(splits, key=lambda s: s.clocks, default=None)


def _splits(cell: str, rows: int, a: Mapping[str, int], gpu: Gpu, together: int) -> Iterator[Split]:
    """All that fit a GPU, for tiles of so many rows."""
    hidden, tiles = a["hidden"], ceil(a["batch"], rows)
    if not _fits_sync(rows, a["directions"] * tiles, hidden):
        return
    for units in _UNITS:
        quads, share = units // 4 if cell == "rnn" else units, FORMS[rows][1]
        slices = ceil(hidden, units)
        most = min(_THREADS, gpu.threads)
        parts = most // max(quads * share, 1)
        groups = min(tiles, gpu.multiprocessors // (together * slices))
        if quads == 0 or parts == 0 or groups == 0 or units >= 2 * hidden > 8:
            continue
        threads = parts * quads * share
        fold = _fold(parts, min(_WARP, threads) // (quads * share))
        turns = ceil(tiles, groups)
        states = turns * rows * units * (2 if cell == "lstm" else 1)
        sums = parts // fold * rows * quads * 4
        kept = hidden * quads * 4
        stage = hidden + hidden % 2 if rows == 1 else 0
        shared = 4 * (kept + sums + rows * units * GATES[cell] + states + stage)
        if shared <= gpu.shared_per_block:
            clocks = turns * _clocks(rows, hidden, quads)
            yield Split(rows, units, slices, groups, threads, fold, shared, clocks)


def _fold(parts: int, most: int) -> int:
    """The largest power of two up to `most` that divides `parts`; at least 1."""
    return max(f for f in (1, 2, 4, 8, 16, 32) if f == 1 or (f <= most and parts % f == 0))


def _clocks(rows: int, hidden: int, quads: int) -> float:
    """One step of one tile."""
    products = hidden * quads * 4 * rows / _FMA
    weights = hidden * quads * 16 / _SHARED
    if rows == 1:
        return _TAGGED_CLOCKS + max(products, weights * 1.25)
    states = hidden * rows * 4 / _L2
    return _COUNTED_CLOCKS + max(products, weights, states)


def _fits_sync(rows: int, tiles: int, hidden: int) -> bool:
    """Whether states of so many tiles, of all directions, have room at `sync`."""
    if COUNTERS + 16 * tiles > TAGGED:
        return False
    if rows == 1:
        return tiles * 2 * (hidden + hidden % 2) <= TILES - TAGGED
    return 4 * tiles * 2 * hidden * rows <= SYNC_BYTES - 8 * TILES
