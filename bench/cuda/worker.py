"""Does checks or timings one by one and says so, a line of JSON each, for `bench.cuda`.

`python -m bench.cuda.worker PART SEED FIRST`. It is a process of its own because a kernel that
fails takes the process's GPU context with it, and one that hangs can only be killed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any


def tasks(part: str, seed: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names and work of a part, always the same and in the same order."""
    if part == "checks":
        from bench.cuda.checks import checks

        yield from checks(seed)
    else:
        from bench.cuda import timing

        yield from timing.tasks()


def main() -> None:
    part, seed, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    every = list(tasks(part, seed))
    say(len(every), "", "tasks")
    for number, (name, work) in enumerate(every):
        if number < first:
            continue
        say(number, name, "begins")
        try:
            say(number, name, "done", work() or {})
        except Exception as error:
            say(number, name, "failed", {"error": f"{type(error).__name__}: {error}"[:2000]})
            if "GPU" in str(error) and "failed" in str(error):
                sys.exit(3)  # the context is lost; the parent goes on with another process


def say(number: int, name: str, state: str, result: Any = None) -> None:
    line = {"number": number, "name": name, "state": state, "result": result}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
