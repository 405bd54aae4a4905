"""A text classifier over many lines, beside onnxruntime: `python -m bench.text [--lines N]`.

Lines are words of the language identifier's test sentences, shuffled. Both engines get the same
ids in the same batches, one after the other; the tokenizer's time is apart. Labels are compared
with those of onnxruntime in float32. Then `lightrnn run` reads the lines from a file, and a tenth
of them, for its peak memory; and once more, interrupted half-way and gone on with, for the same
output. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import io
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.engines import session as onnxruntime_session
from bench.machine import describe
from bench.models import as_onnx
from lightrnn.graph import Array
from lightrnn.model import Model, load
from lightrnn.text import Pipeline

EXAMPLE = Path(__file__).parents[1] / "examples" / "langid"
WARM_UP = 2048
"""Lines before the first that counts."""

PEAK = """
import sys
from lightrnn.cli import main
status = main(sys.argv[1:])
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(line.split()[1]) * 1024, file=sys.stderr)
sys.exit(status)
"""


def generated(count: int, seed: int = 0) -> Iterator[str]:
    """Lines of 3 to 30 words."""
    words = (EXAMPLE / "sentences.txt").read_text(encoding="utf-8").split()
    rng = random.Random(seed)
    for _ in range(count):
        yield " ".join(rng.choices(words, k=rng.randint(3, 30)))


def stored_as(model: Model, dtype: str) -> bytes:
    """The file of a model whose weights are stored in fewer bits."""
    from lightrnn_converters import convert_onnx

    target = io.BytesIO()
    source = as_onnx(model.graph(model.graphs[0]))
    convert_onnx(source, target, dtype=dtype, text=model.text, verify=False)
    return target.getvalue()


class Both:
    """What a task runs in place of its model: the model, and onnxruntime on the same arrays.

    seconds: spent in each. same: rows of count that both give the same label.
    """

    def __init__(self, model: Model, session: Any) -> None:
        self._model, self._session = model, session
        self.seconds = {"lightrnn": 0.0, "onnxruntime": 0.0}
        self.same = self.count = 0

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The model's outputs."""
        start = time.perf_counter()
        found = self._model.run(feeds, outputs)
        middle = time.perf_counter()
        (other,) = self._session.run(list(outputs), dict(feeds))
        self.seconds["lightrnn"] += middle - start
        self.seconds["onnxruntime"] += time.perf_counter() - middle
        same = found[outputs[0]].argmax(axis=1) == other.argmax(axis=1)
        self.same += int(same.sum())
        self.count += len(same)
        return found


def measure(source: bytes, session: Any, count: int, threads: int) -> dict[str, float]:
    """Microseconds a line of the tokenizer, of both engines and of the rest; equal labels."""
    model = load(source, threads=threads)
    pipe = Pipeline(model)
    task: Any = pipe.task
    task._model = Both(model, session)
    pipe(generated(WARM_UP, seed=1))
    both = task._model = Both(model, session)
    encode, tokenizing = task.encode, 0.0

    def timed(text: str, index: int) -> Any:
        nonlocal tokenizing
        start = time.perf_counter()
        ids = encode(text, index)
        tokenizing += time.perf_counter() - start
        return ids

    task.encode = timed
    start = time.perf_counter()
    for _ in pipe.stream(generated(count)):
        pass
    whole = time.perf_counter() - start
    spent = {"tokenizer": tokenizing, **both.seconds}
    spent["the rest"] = whole - sum(spent.values())
    return {**{k: v / count * 1e6 for k, v in spent.items()}, "same": both.same / both.count}


def command(model: Path, lines: Path, output: Path, threads: int) -> list[str]:
    """`lightrnn run`, its peak memory the last word on stderr."""
    run = ["run", str(model), str(lines), "-o", str(output), "--threads", str(threads)]
    return [sys.executable, "-c", PEAK, *run]


def peak_memory(model: Path, lines: Path, output: Path, threads: int) -> int:
    """Bytes that `lightrnn run` held at most."""
    found = subprocess.run(
        command(model, lines, output, threads), check=True, stderr=subprocess.PIPE, text=True
    )
    return int(found.stderr.split()[-1])


def interrupted(model: Path, lines: Path, output: Path, half: int, threads: int) -> None:
    """A run that is interrupted once it has written `half` bytes, and the same command again."""
    call = [*command(model, lines, output, threads), "--resume"]
    partial = Path(f"{output}.partial")
    first = subprocess.Popen(call, stderr=subprocess.PIPE)
    while first.poll() is None and not (partial.exists() and partial.stat().st_size >= half):
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    first.communicate()
    assert first.returncode == 130, f"the run ended with {first.returncode}, not interrupted"
    subprocess.run(call, check=True, stderr=subprocess.PIPE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=EXAMPLE / "langid.lrnn")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--dtypes", default="float32,float16,int8")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    model = load(args.model)
    session = onnxruntime_session(as_onnx(model.graph(model.graphs[0])), args.threads)
    print(f"{args.lines:,} lines, threads: {args.threads}, {describe()}\n")
    print("| weights | tokenizer, µs a line | lightrnn | onnxruntime float32 | ratio "
          "| the rest | same labels |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for dtype in args.dtypes.split(","):
        r = measure(stored_as(model, dtype), session, args.lines, args.threads)
        print(f"| {dtype} | {r['tokenizer']:.1f} | {r['lightrnn']:.1f} | {r['onnxruntime']:.1f} "
              f"| {r['onnxruntime'] / r['lightrnn']:.2f} | {r['the rest']:.1f} "
              f"| {r['same']:.4%} |", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for count in (args.lines // 10, args.lines):
            lines = Path(folder) / f"{count}.txt"
            with lines.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in generated(count))
            whole, again = Path(folder) / "whole.tsv", Path(folder) / "again.tsv"
            peak = peak_memory(args.model, lines, whole, args.threads)
            print(f"\n`lightrnn run` on {count:,} lines: peak {peak / 1e6:.1f} MB, "
                  f"{whole.read_bytes().count(10):,} lines of output", flush=True)  # fmt: skip
        interrupted(args.model, lines, again, whole.stat().st_size // 2, args.threads)
        same = whole.read_bytes() == again.read_bytes()
        print(
            f"\ninterrupted half-way and gone on with: {'the same' if same else 'ANOTHER'} output"
        )


if __name__ == "__main__":
    main()
