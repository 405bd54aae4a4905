"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def page(found: Mapping[str, Any]) -> str:
    """Everything, failures last."""
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    checks = found["checks"]
    failed = [c for c in checks if c["state"] != "done"]
    lines = [
        f"{machine}.", "",
        f"{len(checks) - len(failed)} of {len(checks)} checks passed"
        f"{_left(found['left']['checks'])}; seed {found['seed']}.", "",
        *_steps(found["timings"]), *_cells(found["timings"], found["left"]["timings"]),
    ]  # fmt: skip
    return "\n".join([*lines, *_failures([*failed, *_failed(found["timings"])])])


def _left(count: int) -> str:
    return f", {count} did not get their turn" if count else ""


def _failed(timings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [t for t in timings if t["state"] != "done"]


def _steps(timings: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [t["result"]["step"] for t in timings if "step" in (t["result"] or {})]
    if not rows:
        return []
    return [
        "| one streamed step of an LSTM, H | µs, p10 | p50 | p90 |", "| --- | --- | --- | --- |",
        *(f"| {r['hidden']} | {r['p10']:.1f} | {r['p50']:.1f} | {r['p90']:.1f} |" for r in rows),
        "",
    ]  # fmt: skip


def _cells(timings: Sequence[Mapping[str, Any]], left: int) -> list[str]:
    rows = [t["result"]["cell"] for t in timings if "cell" in (t["result"] or {})]
    lines = [
        f"{len(rows)} layers timed{_left(left)}. Times are device events' medians; torch computes"
        " without TF32. The share is that of the time that arithmetic in float32, or reading"
        " weights and input once and writing the result, needs at least.", "",
        "| cell | H | layers | batch | steps | weights | µs | torch, µs | ratio | share of limit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for r in rows:
        theirs = "–" if r["torch_us"] is None else f"{r['torch_us']:.1f}"
        ratio = "–" if r["ratio"] is None else f"{r['ratio']:.2f}"
        lines.append(
            f"| {r['op']} | {r['hidden']} | {r['layers']} | {r['batch']} | {r['steps']} |"
            f" {r['dtype']} |"
            f" {r['us']:.1f} | {theirs} | {ratio} | {r['share']:.1%} |"
        )
    return [*lines, ""]


def _failures(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    if not failed:
        return ["Nothing failed.", ""]
    lines = [f"{len(failed)} failed:", ""]
    for one in failed:
        why = (one["result"] or {}).get("error", one["state"]).strip().splitlines()
        lines.append(f"- {one['name']}: {' '.join(why[:3])[:300]}")
    return [*lines, ""]
