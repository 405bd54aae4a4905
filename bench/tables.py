"""Tables of the page, one function a part."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from bench.cells import Cell, Layer
from bench.engines import FLOAT32
from bench.results import Part, Result, against, best_of, geometric_mean, timed
from bench.share import held_by, shares
from bench.summary import WAYS, Row, describe

MARKS = {True: "yes", False: "**no**", None: "–"}
SHORT = 0.95
"""Layers whose ratio is below this are listed by themselves."""


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers are right-aligned by their first line."""
    aligned = ["---:" if lines and lines[0][k][:1].isdigit() else "---" for k, _ in enumerate(head)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, aligned, *lines))


def summary(rows: Sequence[Row]) -> str:
    """Asked and measured by group."""
    lines = [(r.group, r.asked, r.measured, str(r.cells), MARKS[r.met]) for r in rows]
    return table(("group", "asked", "measured", "cells", "reached"), lines)


def _pair(r: Result) -> list[str]:
    """Columns of a pair, from lightrnn's time to the ratio's quartiles."""
    return [
        f"{r['lightrnn_us']:.1f}", r["engine"], f"{r['engine_us']:.1f}", f"{r['ratio']:.2f}",
        f"{r['ratio_low']:.2f} to {r['ratio_high']:.2f}",
    ]  # fmt: skip


PAIR = ("lightrnn, µs", "best other", "µs", "ratio", "quartiles")


def layers(part: Part) -> str:
    """Each float32 layer beside the quickest other engine."""
    lines, found = [], shares(part.results)
    for cell, r in best_of(against(part.results, FLOAT32)).items():
        assert isinstance(cell, Layer)
        sizes = cell.hidden, cell.batch, cell.steps, cell.directions, cell.threads
        lines.append([cell.op, *map(str, sizes), *_pair(r), _share(found, cell)])
    return table(
        ("layer", "H", "batch", "steps", "directions", "threads", *PAIR, "share of limit"), lines
    )


def _share(found: Mapping[Cell, float], cell: Cell) -> str:
    return f"{found[cell]:.0%}" if cell in found else "–"


def all_layers(part: Part) -> str:
    """Means, the layers that fall short, and each."""
    return "\n\n".join([
        "Geometric means over layers, lengths from 20 steps on and directions:", means(part),
        "The layers that fall short:", short(part),
        "All of them:", layers(part),
    ])  # fmt: skip


def means(part: Part) -> str:
    """Geometric means of the ratios of layers of 20 steps and more, by threads, batch and H."""
    groups: dict[tuple[int, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell, r in best_of(against(part.results, FLOAT32)).items():
        if isinstance(cell, Layer) and cell.steps >= 20:
            groups[cell.threads, cell.batch][cell.hidden].append(r["ratio"])
    sizes = sorted({size for found in groups.values() for size in found})
    lines = [
        [str(threads), str(batch), *(
            f"{geometric_mean(found[size]):.2f}" if size in found else "" for size in sizes
        )]
        for (threads, batch), found in sorted(groups.items())
    ]  # fmt: skip
    return table(("threads", "batch", *(f"H = {size}" for size in sizes)), lines)


def short(part: Part) -> str:
    """The layers that do worst, with what the limit is made of."""
    found = shares(part.results)
    best = best_of(against(part.results, FLOAT32))
    worst = sorted((r["ratio"], describe(c), c, r) for c, r in best.items() if r["ratio"] < SHORT)
    lines = [
        [name, f"{ratio:.2f}", r["engine"], _share(found, c), held_by(c, part.machine["limits"])]
        for ratio, name, c, r in worst if isinstance(c, Layer)
    ]  # fmt: skip
    if not lines:
        return f"No layer's ratio is below {SHORT}."
    return table(("layer", "ratio", "beside", "share of limit", "the limit is"), lines)


def steps(part: Part) -> str:
    """Latency of one step, then what surroundings do to it."""
    lines = [[r["op"], str(r["hidden"]), WAYS[r["way"]], *_pair(r)] for r in timed(part.results)]
    found = [table(("layer", "H", "way", *PAIR), lines), "", *_busy(part.results)]
    return "\n".join(found)


def _busy(results: Sequence[Result]) -> Iterator[str]:
    lines = [
        [f"{r['op']} {r['hidden']}, {r['steps']} steps", str(r["threads"]),
         f"{r['idle_p90_us']:.1f}", f"{r['busy_p50_us']:.1f}", f"{r['busy_p90_us']:.1f}"]
        for r in results if r["cell"] == "Busy"
    ]  # fmt: skip
    if lines:
        names = ("layer", "threads", "p90 idle, µs", "median beside a busy Python thread", "p90")
        yield table(names, lines)
    for r in results:
        if r["cell"] == "New shape":
            yield f"\nA length not seen before costs the language identifier {r['more_ms']:.2f} ms."


def attention(part: Part) -> str:
    """Attention of 256 units beside the quickest other engine."""
    names = ("kind", "queries", "keys", "batch", "threads")
    return _best(part, names)


def models(part: Part) -> str:
    """Whole models beside the quickest other engine."""
    return _best(part, ("model", "batch", "length", "way", "threads", "dtype"))


def _best(part: Part, names: Sequence[str]) -> str:
    found = best_of(part.results).values()
    return table((*names, *PAIR), [[*(str(r[n]) for n in names), *_pair(r)] for r in found])


def metric(part: Part) -> str:
    """Accuracy by type of weights."""
    lines = [
        [r["dtype"], f"{r['file_bytes'] / 1e3:.0f}", r["text"], f"{r['lines']:,}",
         f"{r['accuracy']:.2%}"]
        for r in part.results
    ]  # fmt: skip
    return table(("weights", "file, kB", "text", "lines", "accuracy"), lines)


def start(part: Part) -> str:
    """Fresh processes by model and engine."""
    lines = [
        [r["model"], r["engine"], f"{r['first_ms']:.0f}", f"{r['of_lightrnn']:.2f}",
         f"{r['peak_bytes'] / 1e6:.1f}", f"{r['file_bytes'] / 1e3:.0f}" if r["file_bytes"] else "",
         f"{r['installed_bytes'] / 1e6:.1f}"]
        for r in part.results
    ]  # fmt: skip
    head = (
        "model", "engine", "start to first result, ms", "of lightrnn's", "peak memory, MB",
        "model file, kB", "installed, MB",
    )  # fmt: skip
    return table(head, lines)


def refused(parts: Mapping[str, Part]) -> str:
    """What engines did not run, and why."""
    count = Counter(
        (name, r["engine"], r["refused"])
        for name, part in parts.items()
        for r in part.results
        if "refused" in r
    )
    return table(
        ("part", "engine", "cells", "reason"),
        [[name, engine, str(n), reason] for (name, engine, reason), n in count.items()],
    ) if count else "Nothing."  # fmt: skip
