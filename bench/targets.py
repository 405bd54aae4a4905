"""What is asked of lightrnn, group by group, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bench import precision
from bench.cells import Layer, from_json
from bench.engines import FLOAT32
from bench.results import Part, Result, against, best_of, geometric_mean, timed
from bench.share import LONG, in_second_cache, shares
from bench.summary import WAYS, Row, at_least, describe


def rows(parts: Mapping[str, Part]) -> list[Row]:
    """Every group of which something was measured."""
    makers: dict[str, Callable[[Part], Iterator[Row]]] = {
        "layers": _layers, "precision": precision.rows, "steps": _steps,
        "attention": _attention, "models": _models, "metric": _metric, "start": _start,
    }  # fmt: skip
    return [row for name, make in makers.items() if name in parts for row in make(parts[name])]


def _layers(part: Part) -> Iterator[Row]:
    best = best_of(against(part.results, FLOAT32))

    def ratios(fits: Callable[[Layer], bool]) -> list[float]:
        return [r["ratio"] for c, r in best.items() if isinstance(c, Layer) and fits(c)]

    def small(c: Layer) -> bool:
        return c.threads == 1 and c.steps >= LONG and c.hidden <= 256

    name = "float32 layers, 1 thread, 20 steps and more, H up to 256"
    yield from at_least(f"{name}, batch 1", 1.3, ratios(lambda c: small(c) and c.batch == 1))
    yield from at_least(
        f"{name}, batch 4 and more", 1.0, ratios(lambda c: small(c) and c.batch > 1)
    )
    yield from at_least("all float32 layers, 1 thread", 1.15, ratios(lambda c: c.threads == 1))
    yield from at_least("all float32 layers, 2 threads", 1.25, ratios(lambda c: c.threads == 2))
    if best:
        cell, worst = min(best.items(), key=lambda item: item[1]["ratio"])
        measured = f"{worst['ratio']:.2f}× ({describe(cell)})"
        yield Row("the worst float32 layer", "0.9×", measured, len(best), worst["ratio"] >= 0.9)
    yield from _shares(part)
    yield from _second_thread(part.results)
    yield from _errors(part.results)


def _shares(part: Part) -> Iterator[Row]:
    caches, found = part.machine["caches"], shares(part.results)
    groups: dict[str, Callable[[Layer], bool]] = {
        "share of the limit, 1 thread, batch 1, weights in the second cache": (
            lambda c: c.batch == 1 and in_second_cache(c, caches)
        ),
        "share of the limit, 1 thread, batch 32": lambda c: c.batch == 32,
    }
    for name, fits in groups.items():
        group = [share for c, share in found.items() if isinstance(c, Layer) and fits(c)]
        if group:
            mean = geometric_mean(group)
            measured = f"{mean:.0%} ({min(group):.0%} to {max(group):.0%})"
            yield Row(name, "75%", measured, len(group), mean >= 0.75)


def _second_thread(results: Sequence[Result]) -> Iterator[Row]:
    found = {from_json(dict(r)): r["ratio"] for r in against(results, ["lightrnn 1 thread"])}
    if found:
        cell, worst = min(found.items(), key=lambda item: item[1])
        measured = f"{worst:.2f}× ({describe(cell)}); mean {geometric_mean([*found.values()]):.2f}×"
        group = "2 threads beside 1, the worst layer"
        yield Row(group, "0.95×", measured, len(found), worst >= 0.95)


def _errors(results: Sequence[Result]) -> Iterator[Row]:
    pairs = [r for r in against(results, ["onnxruntime"]) if r.get("engine_error")]
    if pairs:
        shares = [r["lightrnn_error"] / r["engine_error"] for r in pairs]
        mean = geometric_mean(shares)
        group = "RMS error against float64, as a share of onnxruntime's"
        measured = f"{mean:.2f} (at most {max(shares):.2f})"
        yield Row(group, "1 at most", measured, len(pairs), mean <= 1.0)


def _steps(part: Part) -> Iterator[Row]:
    found = timed(part.results)
    asked = {"run": 4.0, "states": 2.5, "stream": 4.0}
    for way, least in asked.items():
        ratios = [r["ratio"] for r in found if r["way"] == way and r["hidden"] <= 64]
        yield from at_least(f"one step beside onnxruntime, H up to 64, {WAYS[way]}", least, ratios)
    large = [r["ratio"] for r in found if r["way"] == "run" and r["hidden"] == 256]
    yield from at_least("one step beside onnxruntime, H = 256, x in, y out", 1.3, large)
    busy = [r for r in part.results if r["cell"] == "Busy"]
    for what, some in (
        ("up to 0.5 ms", [r for r in busy if r["idle_p90_us"] <= 500]),
        ("longer runs", [r for r in busy if r["idle_p90_us"] > 500]),
    ):
        if some:
            worst = max(r["busy_p90_us"] / r["idle_p90_us"] for r in some)
            group = f"p90 with another Python thread busy, beside idle: the worst, {what}"
            yield Row(group, "2× at most", f"{worst:.2f}×", len(some), worst <= 2)


def _attention(part: Part) -> Iterator[Row]:
    best = best_of(part.results)
    for kind in ("multi-head", "additive", "concatenated"):
        ratios = [r["ratio"] for r in best.values() if r["kind"] == kind]
        yield from at_least(f"{kind} attention", None, ratios)


def _models(part: Part) -> Iterator[Row]:
    plain = best_of(r for r in part.results if r["dtype"] == "float32")
    for model in dict.fromkeys(r["model"] for r in plain.values()):
        ratios = [r["ratio"] for r in plain.values() if r["model"] == model]
        yield from at_least(f"whole model: {model}", None, ratios)


def _metric(part: Part) -> Iterator[Row]:
    """Accuracy that fewer bits cost, in percentage points, on the first text."""
    text = part.results[0]["text"]
    found = {r["dtype"]: r["accuracy"] for r in part.results if r["text"] == text}
    base = found.pop("float32")
    for dtype, accuracy in found.items():
        group = f"language identifier's accuracy on {text}, {dtype}"
        measured = f"{accuracy:.2%}, {100 * (accuracy - base):+.2f} points"
        yield Row(group, "", measured, 1, None)


def _start(part: Part) -> Iterator[Row]:
    own = {r["model"]: r for r in part.results if r["engine"] == "lightrnn"}
    others = [r for r in part.results if r["engine"] == "onnxruntime"]
    ways: dict[str, Callable[[Result], float]] = {
        "start to first result": lambda r: r["of_lightrnn"],
        "peak memory": lambda r: r["peak_bytes"] / own[r["model"]]["peak_bytes"],
        "installed size": lambda r: r["installed_bytes"] / own[r["model"]]["installed_bytes"],
    }
    for name, ratio in ways.items():
        group = f"fresh process: {name}, onnxruntime's of lightrnn's"
        yield from at_least(group, None, [ratio(r) for r in others])
