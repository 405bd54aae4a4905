"""Plots of results as small SVG files that light and dark pages can show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.cells import Layer
from bench.engines import FLOAT32
from bench.precision import OTHERS
from bench.results import Part, Result, against, best_of, geometric_mean, timed

INK = "#808890"
"""Text and axes: a grey that is legible on white and on black."""
COLORS = ("#3b82f6", "#f97316", "#10a37f", "#a855f7", "#64748b", "#e11d48")
ENGINE_COLORS = dict(
    zip(("lightrnn", "onnxruntime", "openvino", "torch", "ncnn"), COLORS, strict=False)
)
MARKERS = {"float32": "o", "float16": "^", "bfloat16": "s", "int16": "P", "int8": "D",
           "int16+int8": "X"}  # fmt: skip
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "lightrnn", "font.size": 11, "axes.titlesize": 11,
    "font.family": "sans-serif", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False,
}  # fmt: skip


def draw(parts: Mapping[str, Part], folder: Path) -> list[str]:
    """Write a plot for each part that has one; the names of the files."""
    drawers: dict[str, tuple[str, Callable[[Part, Path], None]]] = {
        "layers": ("speed.svg", speed), "steps": ("latency.svg", latency),
        "precision": ("precision.svg", precision),
    }  # fmt: skip
    made = []
    for part, (name, drawer) in drawers.items():
        if part in parts:
            drawer(parts[part], folder / name)
            made.append(name)
    return made


@contextmanager
def _axes(count: int, width: float, path: Path, **options: Any) -> Iterator[Any]:
    """Panels beside each other, saved to `path` at the end."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 3.4), layout="tight")
        yield figure.subplots(1, count, squeeze=False, **options)[0]
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def speed(part: Part, path: Path) -> None:
    """Ratios to the best other engine by hidden size, a panel a batch size; 20 and 100 steps."""
    groups: dict[tuple[int, str, int], list[float]] = defaultdict(list)
    for cell, r in best_of(against(part.results, FLOAT32)).items():
        assert isinstance(cell, Layer)
        if (cell.threads, cell.directions) == (1, 1) and cell.steps in (20, 100):
            groups[cell.batch, cell.op, cell.hidden].append(r["ratio"])
    batches = sorted({batch for batch, _, _ in groups})
    with _axes(len(batches), 2.6 * len(batches) + 0.8, path, sharey=True) as axes:
        for axis, batch in zip(axes, batches, strict=True):
            for color, op in zip(COLORS, ("LSTM", "GRU", "RNN"), strict=False):
                points = sorted((h, geometric_mean(v)) for (b, o, h), v in groups.items()
                                if (b, o) == (batch, op))  # fmt: skip
                if points:
                    axis.plot(*zip(*points, strict=True), marker="o", color=color, label=op)
            axis.axhline(1.0, color=INK, linewidth=1, linestyle="--")
            axis.set(xscale="log", title=f"batch {batch}", xlabel="hidden size")
            axis.set_xticks([32, 64, 128, 256, 512, 1024])
            axis.set_xticklabels(["32", "64", "128", "256", "512", "1024"], fontsize=9)
            axis.minorticks_off()
        axes[0].set_ylabel("speed, of the best other engine")
        axes[-1].legend(loc="upper right")


def latency(part: Part, path: Path) -> None:
    """Microseconds of one LSTM step by hidden size, as bars."""
    found = {(r["way"], r["hidden"]): r for r in timed(part.results) if r["op"] == "LSTM"}
    sizes = sorted({hidden for _, hidden in found})
    bars = (
        ("onnxruntime, states", "states", "engine_us"), ("onnxruntime", "run", "engine_us"),
        ("lightrnn, states", "states", "lightrnn_us"),
        ("lightrnn, stream", "stream", "lightrnn_us"), ("lightrnn", "run", "lightrnn_us"),
    )  # fmt: skip
    colors = ("#94a3b8", "#64748b", COLORS[1], COLORS[2], COLORS[0])
    with _axes(1, 8, path) as (axis,):
        for k, ((label, way, field), color) in enumerate(zip(bars, colors, strict=True)):
            points = [(i, found[way, h][field]) for i, h in enumerate(sizes) if (way, h) in found]
            places = [i + (k - 2) * 0.16 for i, _ in points]
            axis.bar(places, [us for _, us in points], 0.15, color=color, label=label)
        axis.set(ylabel="one LSTM step, µs", xlabel="hidden size")
        axis.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axis.legend()


def precision(part: Part, path: Path) -> None:
    """Time beside error of LSTMs in batch 1, a point for each engine and type of weights."""
    from matplotlib.ticker import LogLocator, NullLocator

    found = [r for r in timed(part.results) if r["op"] == "LSTM" and r["batch"] == 1]
    sizes = sorted({r["hidden"] for r in found})[-2:]
    with _axes(len(sizes), 3.4 * len(sizes) + 2.4, path) as axes:
        for axis, hidden in zip(axes, sizes, strict=True):
            points = sorted(_points([r for r in found if r["hidden"] == hidden]).items())
            for name, (us, error) in points:
                engine, _, dtype = name.partition(" ")
                axis.plot([error], [us], MARKERS[dtype or "float32"], color=ENGINE_COLORS[engine],
                          markersize=8, label=name)  # fmt: skip
            axis.set(xscale="log", yscale="log", title=f"LSTM {hidden}, batch 1, 100 steps",
                     xlabel="RMS error against float64")  # fmt: skip
            axis.xaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            for formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                formatter("{x:g}")
            axis.margins(0.15, 0.15)
        axes[0].set_ylabel("µs")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9)


def _points(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Median time, and error, by name."""
    times, errors = defaultdict(list), {}
    for r in results:
        sides = [(f"lightrnn {r['dtype']}", "lightrnn")]
        if r["engine"] in OTHERS:
            sides.append((r["engine"], "engine"))
        for name, side in sides:
            times[name].append(r[f"{side}_us"])
            errors[name] = r[f"{side}_error"]
    return {name: (median(found), errors[name]) for name, found in times.items()}
