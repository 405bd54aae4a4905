"""lightrnn beside every engine that is installed.

`python -m bench [--quick] [--only PART,PART] [--resume]`. Each part writes a JSON file of its own
to the folder of this machine; then the page and the plots are made of all that are there.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import limits, machine, page, parts
from bench.pair import DIFFER
from bench.results import PARTS, Part, Result, read, save

RESULTS = Path(__file__).parent / "results"
SECONDS = {True: 0.1, False: 0.3}
"""Spent on a cell and engine, by whether the run is quick."""
KEEP_EVERY = 20
"""Results after which they are written again, lest a run that is killed loses them."""


def run(name: str, args: argparse.Namespace, found: dict[str, Any], folder: Path) -> int:
    """Measure one part and save it; what was measured is saved as well if it is interrupted.

    Returns in how many cells another engine's outputs were not lightrnn's.
    """
    before = read(name, folder) if args.resume else None
    results: list[Result] = []
    if before is not None and before.quick == args.quick:
        results = [r for r in before.results if "engine" in r and r["cell"] != "Start"]
    seconds = args.seconds or SECONDS[args.quick]
    start = time.perf_counter()
    try:
        threads = parts.usable_threads()
        for result in parts.measured(name, args.quick, seconds, threads, tuple(results)):
            results.append(result)
            print(_line(result), flush=True)
            if len(results) % KEEP_EVERY == 0:
                save(name, Part(found, args.quick, results), folder)
    finally:
        save(name, Part(found, args.quick, results), folder)
    print(f"{name}: {len(results)} results in {time.perf_counter() - start:.0f} s", flush=True)
    return sum(str(r.get("refused", "")).startswith(DIFFER) for r in results)


def _line(result: Result) -> str:
    hidden = {"ratio_low", "ratio_high", "runs", "max_difference", "rms_difference"}
    shown = (v for k, v in result.items() if k not in hidden)
    return " ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in shown)


def selected(text: str) -> Sequence[str]:
    """Parts by name. Raises ArgumentTypeError for another name."""
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {unknown[0]!r}, expected {', '.join(PARTS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cells, under five minutes")
    parser.add_argument("--only", type=selected, default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--resume", action="store_true", help="keep the cells already measured")
    parser.add_argument("--render", action="store_true", help="measure nothing, make the page")
    parser.add_argument("--seconds", type=float, help="spent on a cell and engine")
    parser.add_argument("--out", type=Path, help="by default bench/results/MACHINE")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # what types of weights cost is in the results
    found = machine.describe()
    folder = args.out or RESULTS / machine.folder_name(found)
    differ = 0
    if not args.render:
        found["limits"] = limits.measured()
        differ = sum(run(name, args, found, folder) for name in args.only)
    print(page.write(folder))
    if differ:
        raise SystemExit(f"engines disagree in {differ} cells: see what they refused")


if __name__ == "__main__":
    main()
