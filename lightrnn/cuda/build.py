"""Compile the GPU kernels with numba-cuda, ahead of time, into one archive. Needs no GPU.

With `cuda.kernels.lowering` the only module that imports numba-cuda; it runs when a wheel is built
and for `lightrnn build-kernels --cuda`. The archive is a zip file: `index.json`, for each target
`TARGET/SYMBOL.cubin`, and `ptx/SYMBOL.ptx`, of the oldest target, for chips to come.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lightrnn.cuda.grid import Symbol
from lightrnn.cuda.image import ABI_KEY, HASH_KEY, INDEX, KERNELS_KEY, TOOLKIT_KEY, source_hash
from lightrnn.cuda.launch import SYMBOLS
from lightrnn.errors import NativeError
from lightrnn.native import abi
from lightrnn.record import Record

TARGETS = ("sm_80", "sm_90")
"""Chips that kernels are assembled for, oldest first; PTX is of the oldest."""
_OLDEST = (8, 0)
_WHEN = (2020, 1, 1, 0, 0, 0)
"""The time of every file in an archive, so that equal kernels give equal bytes."""


class Compiled(Record):
    """One kernel: PTX, and for each target the cubin and what it uses of the chip."""

    symbol: str
    ptx: str
    cubins: dict[str, bytes]
    resources: dict[str, dict[str, int]]


def build(destination: str | Path, processes: int | None = None) -> Path:
    """Compile every kernel and put the archive at `destination`, complete. Raises NativeError."""
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    check_toolkit()
    count = min(processes or len(os.sched_getaffinity(0)), len(SYMBOLS))
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        done = list(pool.map(compile_symbol, SYMBOLS))
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".building-") as folder:
        archive = Path(folder) / destination.name
        _write(archive, done)
        os.replace(archive, destination)
    return destination


def check_toolkit() -> None:
    """Refuse to go on without the packages that compile. Raises NativeError."""
    missing = [n for n in ("numba-cuda", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink",
                           "nvidia-cuda-nvrtc") if not _version(n)]  # fmt: skip
    if missing:
        raise NativeError(
            f"compiling GPU kernels needs {', '.join(missing)}:"
            " pip install 'lightrnn[cuda-kernels]'"
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def compile_symbol(name: str) -> Compiled:
    """Compile one kernel for every target. Raises NativeError."""
    ptx = make_ptx(SYMBOLS[name])
    cubins, resources = {}, {}
    for target in TARGETS:
        cubins[target], resources[target] = assemble(name, ptx, target)
    return Compiled(name, ptx, cubins, resources)


def load_function(symbol: Symbol) -> Any:
    """A kernel as a Python function, its parameters checked against the ABI. Raises NativeError."""
    module = importlib.import_module(f"lightrnn.cuda.kernels.{symbol.module}")
    function = getattr(module, symbol.name)
    wanted = [*(p.name for p in abi.KERNELS[symbol.kernel].parameters), *symbol.extra]
    found = list(inspect.signature(function).parameters)
    if found != wanted:
        raise NativeError(f"GPU kernel {symbol.name}: parameters {found}, the ABI says {wanted}")
    return function


def make_ptx(symbol: Symbol) -> str:
    """The PTX of a kernel for the oldest target, its entry under the symbol's name."""
    function = load_function(symbol)
    from numba.cuda import compile_ptx, types

    from lightrnn.cuda.kernels.lowering import POINTERS, register_helpers

    register_helpers()
    kinds = {
        **POINTERS, "int": types.int64, "node": types.int64, "float": types.float64,
        "tail": POINTERS["i64"], "status": POINTERS["i64"], "sync": POINTERS["i64"],
        "table": POINTERS["i64"],
    }  # fmt: skip
    given = [kinds[kind] for kind in abi.KERNELS[symbol.kernel].kinds]
    given += [types.int64] * len(symbol.extra)
    bounds = (symbol.threads, symbol.resident)
    with _without_device():
        text, _ = compile_ptx(
            function, types.void(*given), device=False, cc=_OLDEST, launch_bounds=bounds
        )
    entry = re.findall(r"\.visible \.entry (\w+)\(", text)
    if len(entry) != 1:
        raise NativeError(f"GPU kernel {symbol.name}: entries {entry} in its PTX, expected one")
    return str(text).replace(entry[0], symbol.name)


@contextmanager
def _without_device() -> Iterator[None]:
    """numba-cuda asks for the current GPU when a kernel calls a helper; answer for it."""
    from numba.cuda import dispatcher

    class Oldest:
        compute_capability = _OLDEST

    asked = dispatcher.get_current_device
    dispatcher.get_current_device = Oldest
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


def assemble(name: str, ptx: str, target: str) -> tuple[bytes, dict[str, int]]:
    """The cubin of a kernel for a target, and its registers, shared memory, stack and spills."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=target, verbose=True, ptxas_options=["-v"], no_cache=True)
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)
    log = linker.get_info_log()
    return cubin, {key: _figure(pattern, log, name) for key, pattern in _FIGURES.items()}


_FIGURES = {
    "registers": r"[Uu]sed (\d+) registers",
    "shared": r"(\d+) bytes smem",
    "stack": r"(\d+) bytes stack frame",
    "spills": r"(\d+) bytes spill stores",
}


def _figure(pattern: str, log: str, name: str) -> int:
    found = re.search(pattern, log)
    if found is None:
        raise NativeError(f"GPU kernel {name}: no figure like {pattern!r} from the assembler")
    return int(found[1])


def _write(path: Path, done: list[Compiled]) -> None:
    index = {
        ABI_KEY: abi.ABI,
        HASH_KEY: source_hash(),
        TOOLKIT_KEY: {n: _version(n) for n in ("nvidia-nvvm", "nvidia-nvjitlink", "numba-cuda")},
        KERNELS_KEY: {c.symbol: c.resources for c in done},
    }
    files = {INDEX: json.dumps(index, sort_keys=True, indent=1).encode()}
    for c in done:
        files[f"ptx/{c.symbol}.ptx"] = c.ptx.encode()
        files.update({f"{t}/{c.symbol}.cubin": code for t, code in c.cubins.items()})
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _WHEN)
            archive.writestr(info, files[name], zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    build(sys.argv[1])
