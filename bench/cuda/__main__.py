"""All checks of the GPU backend, then times against torch: `python -m bench.cuda --out FOLDER`.

Builds the kernels where there are none, checks every operator, recurrent layers, what is promised
beside numbers and the example models, then times layers for as long as `--seconds` allow. Writes
cuda.json and cuda.md, prints the latter, and says at its end what failed; status 1 if anything did.
"""

from __future__ import annotations

import argparse
import json
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.cuda import report

PATIENCE = 60.0
"""Seconds after which something hangs."""
CHECKS = 0.5
"""Of the time, what checks may take."""
PACKAGES = ("lightrnn", "numpy", "cuda-core", "cuda-bindings", "torch")


def prepared() -> dict[str, str]:
    """Build what is missing; the machine and what is compared. Raises DeviceError, NativeError."""
    from lightrnn.cuda import image
    from lightrnn.cuda.device import open_device

    if image.load() is None:
        print("compiling the kernels", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "lightrnn", "build-kernels", "--cuda"], check=True)
    gpu = open_device(0)
    major, minor = gpu.capability
    found = {
        "GPU": gpu.name, "capability": f"{major}.{minor}",
        "multiprocessors": str(gpu.gpu.multiprocessors), "Python": platform.python_version(),
    }  # fmt: skip
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Part:
    """A part's tasks, done by one worker after the other until all are done or time is up."""

    def __init__(self, name: str, seed: int, until: float) -> None:
        self._name, self._seed, self._until = name, seed, until
        self.results: list[dict[str, Any]] = []
        self._count = 0

    @property
    def left(self) -> int:
        """Tasks that did not get their turn."""
        return max(self._count - len(self.results), 0)

    def run(self) -> None:
        first, ended = 0, False
        while time.monotonic() < self._until and not ended:
            last, ended = self._run_from(first)
            first = last + 1

    def _run_from(self, first: int) -> tuple[int, bool]:
        """Let a worker go on from a task; the last that it began, and whether that is the end."""
        command = [sys.executable, "-m", "bench.cuda.worker", self._name, str(self._seed)]
        number, name = first - 1, "starting"
        with subprocess.Popen([*command, str(first)], stdout=subprocess.PIPE, text=True) as process:
            for line in _lines(process):
                if line is None or time.monotonic() > self._until:
                    process.kill()
                    if line is None:
                        self._take(max(number, first), name, "hangs")
                    return max(number, first), False
                if line["state"] == "tasks":
                    self._count = line["number"]
                    continue
                number, name = line["number"], line["name"]
                if line["state"] != "begins":
                    self._take(number, name, line["state"], line["result"])
        if process.returncode not in (0, 3):
            self._take(max(number, first), name, f"ended with status {process.returncode}")
        return number, process.returncode == 0 or number < first

    def _take(self, number: int, name: str, state: str, result: Any = None) -> None:
        self.results.append({"number": number, "name": name, "state": state, "result": result})
        if state != "done":
            print(f"{name}: {state} {result or ''}"[:500], file=sys.stderr, flush=True)


def _lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any] | None]:
    """What a worker says; None when it says nothing for too long."""
    said: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for text in process.stdout:
            said.put(text)
        said.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            text = said.get(timeout=PATIENCE)
        except queue.Empty:
            yield None
            return
        if not text:
            return
        if text.startswith("{"):
            yield json.loads(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=460.0, help="for checks and timings")
    parser.add_argument("--seed", type=int, help="of what is drawn; by default another each time")
    args = parser.parse_args()
    start = time.monotonic()
    seed = int(time.time()) % 100_000 if args.seed is None else args.seed
    machine = prepared()
    print(json.dumps(machine), file=sys.stderr, flush=True)
    checks = Part("checks", seed, start + CHECKS * args.seconds)
    timings = Part("timings", seed, start + args.seconds)
    for part in (checks, timings):
        part.run()
    found = {
        "machine": machine, "seed": seed, "seconds": time.monotonic() - start,
        "checks": checks.results, "timings": timings.results,
        "left": {"checks": checks.left, "timings": timings.left},
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cuda.json").write_text(json.dumps(found, indent=1) + "\n")
    text = report.page(found)
    (args.out / "cuda.md").write_text(text)
    print(text)
    return int(any(one["state"] != "done" for one in (*checks.results, *timings.results)))


if __name__ == "__main__":
    sys.exit(main())
