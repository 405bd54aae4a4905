"""Build the emulated GPU: `python -m tests.emulator.build FOLDER` writes FOLDER/libcuda.so.1.

The driver, and the kernels of the archive (built first where it is missing or stale), from their
PTX. A process whose LD_LIBRARY_PATH begins with the folder finds one GPU, for example

    LD_LIBRARY_PATH=FOLDER python -m bench.cuda.worker checks 1 0
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lightrnn.cuda.image import Images
from lightrnn.cuda.launch import SYMBOLS
from tests import cuda_page
from tests.emulator.translate import translate

HERE = Path(__file__).parent
_OPTIONS = ("-O1", "-w", "-fPIC", "-fwrapv", "-fno-strict-aliasing", "-ffp-contract=off")
_NEWEST = (99, 0)
"""A chip that there is only PTX for."""


def build(folder: Path, kernels: Mapping[str, str], options: Sequence[str] = ()) -> Path:
    """The library in `folder`, with kernels from their PTX by name; without any, all do nothing.

    options: more for the C compiler.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for symbol, ptx in kernels.items():
            (work / f"{symbol}.c").write_text(translate(symbol, ptx))
        if kernels:
            (work / "kernels.c").write_text(_table(kernels))
        sources = [*work.glob("*.c"), HERE / "driver.c", HERE / "grid.c"]
        command = ("cc", *_OPTIONS, *options, "-I", str(HERE), "-c")

        def compiled(source: Path) -> Path:
            made = work / f"{source.stem}.o"
            subprocess.run([*command, str(source), "-o", str(made)], check=True)
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, sources))
        made = folder / "libcuda.so.1"
        subprocess.run(["cc", "-shared", "-o", made, *objects, "-ldl", "-lm"], check=True)
    return made


def _table(symbols: Iterable[str]) -> str:
    names = sorted(symbols)
    externs = "".join(f"extern const struct kernel kernel_{s};\n" for s in names)
    table = "".join(f"&kernel_{s}, " for s in names)
    return f'#include "grid.h"\n{externs}const struct kernel *const kernels[] = {{{table}0}};\n'


def sources(images: Images) -> dict[str, str]:
    """The PTX of every kernel of an archive, by name."""
    return {symbol: images.code(symbol, _NEWEST)[0].decode() for symbol in SYMBOLS}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(build(target, sources(cuda_page.current())))
