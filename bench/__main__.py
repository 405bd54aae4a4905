"""Layers against every engine that is installed: `python -m bench [--quick] [--out FOLDER]`.

Each other engine shares a process with lightrnn, their runs alternate, and each cell is reported
beside the engine that was quickest. Writes layers.json, layers.md and layers.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import engines, machine, report
from bench.cells import OPS, Cell, layers


def pairs(engine: str, cells: Sequence[Cell], seconds: float) -> Iterator[dict[str, Any]]:
    """Results of all cells against one engine, measured in a process of its own."""
    command = [sys.executable, "-m", "bench.pair", engine, str(seconds)]
    text = "".join(json.dumps(cell.to_json()) + "\n" for cell in cells)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cells, under five minutes")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--engines", default=",".join(engines.FLOAT32))
    parser.add_argument("--ops", default=",".join(OPS))
    parser.add_argument("--seconds", type=float, help="time a cell and engine")
    args = parser.parse_args()
    seconds = args.seconds or (0.15 if args.quick else 1.0)
    threads = (1, 2) if len(os.sched_getaffinity(0)) > 1 else (1,)
    cells = [c for c in layers(args.quick, threads) if c.op in args.ops.split(",")]
    limits = machine.measured()
    found = {**machine.describe(), "limits": limits}
    print(json.dumps(found, indent=1))
    results = []
    for engine in args.engines.split(","):
        if not engines.installed(engine):
            print(f"{engine} is not installed")
            continue
        for result in pairs(engine, cells, seconds):
            results.append(result)
            cell = report.cell_of(result)
            print(f"{cell.op:4} H={cell.hidden:<5} N={cell.batch:<3} T={cell.steps:<4}"
                  f" D={cell.directions} threads={cell.threads}"
                  f" {engine:12} {result['ratio']:.2f}", flush=True)  # fmt: skip
    report.save(results, found, args.out)
    print(report.table(results, limits))


if __name__ == "__main__":
    main()
