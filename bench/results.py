"""Results of parts: one JSON file each, and what is computed from many."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cells import Cell, from_json

PARTS = ("layers", "steps", "attention", "models", "precision", "metric", "start")
DIGITS = 4
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What one part measured. machine: of that run, with its limits. quick: fewer cells."""

    machine: Mapping[str, Any]
    quick: bool
    results: Sequence[Result]


def save(name: str, part: Part, folder: Path) -> None:
    """Write NAME.json: the machine, then a result a line, numbers of four digits."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {"machine": part.machine, "quick": part.quick}
    lines = ",\n".join(f" {json.dumps(_rounded(r))}" for r in part.results)
    text = json.dumps(head, indent=1).removesuffix("\n}") + f',\n "results": [\n{lines}\n]\n}}\n'
    (folder / f"{name}.json").write_text(text)


def read(name: str, folder: Path) -> Part | None:
    """What is in NAME.json, or None where there is no such file."""
    path = folder / f"{name}.json"
    return Part(**json.loads(path.read_text())) if path.exists() else None


def read_all(folder: Path) -> dict[str, Part]:
    """The parts that were measured, in order."""
    return {name: part for name in PARTS if (part := read(name, folder)) is not None}


def _rounded(result: Result) -> dict[str, Any]:
    return {k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in result.items()}


def timed(results: Iterable[Result]) -> list[Result]:
    """Those of cells that an engine ran, and did not refuse."""
    return [r for r in results if "ratio" in r]


def against(results: Iterable[Result], engines: Sequence[str]) -> list[Result]:
    """Timed results against these engines alone."""
    return [r for r in timed(results) if r["engine"] in engines]


def best_of(results: Iterable[Result]) -> dict[Cell, Result]:
    """For each cell the result against the engine that was quickest beside lightrnn."""
    groups: dict[Cell, list[Result]] = defaultdict(list)
    for result in timed(results):
        groups[from_json(dict(result))].append(result)
    return {cell: min(found, key=lambda r: r["ratio"]) for cell, found in groups.items()}


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers; NaN of none."""
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")
