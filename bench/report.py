"""Results as a Markdown table and as plots."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.cells import Cell

Result = Mapping[str, Any]


def cell_of(result: Result) -> Cell:
    return Cell(**{k: result[k] for k in Cell.__dataclass_fields__})


def share_of_limit(cell: Cell, us: float, machine: Mapping[str, float]) -> float:
    """The time that arithmetic and weights need at least, over the time taken.

    Arithmetic at the measured peak; in batch 1 the recurrent weights are read again each step,
    from the level of cache that holds them.
    """
    arithmetic = 2 * cell.multiplies / (machine["peak, GFLOP/s"] * 1e9 * cell.threads)
    sizes = {"16 KiB": 2**14, "256 KiB": 2**18, "2 MiB": 2**21, "16 MiB": 2**24}
    level = next((n for n, s in sizes.items() if cell.recurrent_bytes <= s), "128 MiB")
    rate = machine[f"reading {level}, GB/s"] * 1e9 * cell.threads
    reading = cell.steps * cell.recurrent_bytes / rate
    projected = arithmetic / 2
    return max(arithmetic, projected + reading if cell.batch == 1 else 0.0) / (us * 1e-6)


def best_of(results: Sequence[Result]) -> dict[Cell, Result]:
    """For each cell the result against the engine that was quickest."""
    groups: dict[Cell, list[Result]] = defaultdict(list)
    for result in results:
        groups[cell_of(result)].append(result)
    return {cell: min(found, key=lambda r: r["ratio"]) for cell, found in groups.items()}


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")


def table(results: Sequence[Result], machine: Mapping[str, float]) -> str:
    """Every cell beside the quickest other engine, then means by group."""
    lines = [
        "| layer | H | batch | steps | directions | threads | lightrnn, µs | best other | µs |"
        " ratio | quartiles | share of limit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    best = best_of(results)
    for cell, r in best.items():
        share = share_of_limit(cell, r["lightrnn_us"], machine)
        lines.append(
            f"| {cell.op} | {cell.hidden} | {cell.batch} | {cell.steps} | {cell.directions} |"
            f" {cell.threads} | {r['lightrnn_us']:.1f} | {r['engine']} | {r['engine_us']:.1f} |"
            f" {r['ratio']:.2f} | {r['ratio_low']:.2f} to {r['ratio_high']:.2f} | {share:.0%} |"
        )
    return "\n".join([*lines, "", *_means(best)])


def _means(best: Mapping[Cell, Result]) -> list[str]:
    groups: dict[str, Callable[[Cell], bool]] = {
        "1 thread": lambda c: c.threads == 1,
        "1 thread, batch 1, 20 steps and more, H up to 256": lambda c: (
            c.threads == 1 and c.batch == 1 and c.steps >= 20 and c.hidden <= 256
        ),
        "1 thread, batch 4 and more, 20 steps and more, H up to 256": lambda c: (
            c.threads == 1 and c.batch >= 4 and c.steps >= 20 and c.hidden <= 256
        ),
        "2 threads": lambda c: c.threads == 2,
        "one step": lambda c: c.steps == 1 and c.threads == 1,
    }
    lines = [
        "| float32 cells | count | geometric mean of ratios | least |",
        "| --- | --- | --- | --- |",
    ]
    for name, fits in groups.items():
        ratios = [r["ratio"] for cell, r in best.items() if fits(cell)]
        if ratios:
            mean = geometric_mean(ratios)
            lines.append(f"| {name} | {len(ratios)} | {mean:.2f} | {min(ratios):.2f} |")
    return lines


def plot(results: Sequence[Result], path: Path) -> None:
    """Ratios by hidden size, one panel a batch size, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    best = {c: r for c, r in best_of(results).items() if c.threads == 1 and c.directions == 1}
    batches = sorted({c.batch for c in best})
    figure, axes = pyplot.subplots(1, len(batches), figsize=(4 * len(batches), 3.2), sharey=True)
    for axis, batch in zip(np.atleast_1d(axes), batches, strict=True):
        for op in ("LSTM", "GRU", "RNN"):
            points = sorted(
                (c.hidden, r["ratio"])
                for c, r in best.items()
                if c.op == op and c.batch == batch and c.steps == 100
            )
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=op)
        axis.axhline(1.0, color="gray", linewidth=0.8)
        axis.set(xscale="log", title=f"batch {batch}, 100 steps", xlabel="hidden size")
        axis.set_xticks([32, 64, 128, 256, 512, 1024], ["32", "64", "128", "256", "512", "1024"])
    np.atleast_1d(axes)[0].set_ylabel("times as fast as the best other engine")
    np.atleast_1d(axes)[0].legend()
    figure.tight_layout()
    figure.savefig(path)


def save(results: Sequence[Result], machine: Mapping[str, Any], folder: Path) -> None:
    """layers.json, layers.md and, where matplotlib is installed, layers.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "results": list(results)}
    (folder / "layers.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "layers.md").write_text(table(results, machine["limits"]) + "\n")
    try:
        plot(results, folder / "layers.svg")
    except ImportError:
        print("matplotlib is not installed: no plots")
