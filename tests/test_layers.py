"""Imports run one way, and what runs needs NumPy alone: read from the source of every module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightrnn

ROOT = Path(lightrnn.__file__).parent

MAY_IMPORT = {
    "errors": "",
    "record": "",
    "graph": "errors record",
    "native.abi": "record",
    "native.sources": "",
    "native.library": "errors record native.abi native.sources",
    "native.build": "errors native.abi native.sources kernels",
    "kernels": "native.abi",
    "ops": "errors record graph native.abi",
    "engine": "errors record graph ops native.abi native.library",
    "format": "errors record graph",
    "streaming": "errors record graph ops engine",
    "source": "errors",
    "cuda": "errors record graph ops engine native.abi native.library",
    "cuda.kernels": "native.abi kernels cuda",
    "cuda.build": "errors record native.abi cuda cuda.kernels",
    "model": "errors record graph ops engine format streaming source native.library cuda",
    "text": "errors record graph model",
    "ray": "errors graph model text",
    "__init__": "errors model text",
    "cli": "__init__ errors graph ops engine format model text native.library native.build cuda"
    " cuda.build",
    "__main__": "cli",
}
"""What each part of lightrnn imports of the others; a package always knows its own modules."""

COMPILERS = {"numba", "llvmlite"}
GPU = {"cuda"}
"""NVIDIA's cuda.core and cuda.bindings, where a GPU is asked for."""
TOKENIZERS = {"tokenizers", "jieba"}
"""Packages of tokenizers that a model may ask for by name."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module's name under lightrnn, and its tree."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"), str(path))


MODULES = dict(modules())


def part_of(module: str) -> str:
    """The part that a module belongs to."""
    package = module.split(".", maxsplit=1)[0]
    apart = ("cuda.build", "cuda.kernels")
    found = next((name for name in apart if f"{module}.".startswith(f"{name}.")), package)
    return module if package == "native" else found


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of all modules that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("lightrnn.") in MODULES else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            (name,) = node.args
            yield ast.unparse(name).strip("f'\"")


@pytest.mark.parametrize("module", MODULES)
def test_imports_within_lightrnn_run_one_way(module: str) -> None:
    part = part_of(module)
    if module == "native":
        assert not list(imported(MODULES[module]))
        return
    allowed = {part, *MAY_IMPORT[part].split()}
    for name in imported(MODULES[module]):
        if name.split(".")[0] == "lightrnn":
            inner = name.removeprefix("lightrnn").removeprefix(".") or "__init__"
            assert part_of(inner) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_but_numpy_and_the_standard_library_is_imported(module: str) -> None:
    allowed = {"lightrnn", "numpy", *sys.stdlib_module_names}
    if module == "record":
        allowed.add("typing_extensions")  # for type checkers alone
    if part_of(module) in ("native.build", "kernels", "cuda.build", "cuda.kernels"):
        allowed |= COMPILERS
    if module in ("cuda.device", "cuda.build"):
        allowed |= GPU
    if module.startswith("text.tokenizers."):
        allowed |= TOKENIZERS
    if module == "cli.plot":
        allowed.add("matplotlib")
    for name in imported(MODULES[module]):
        assert name.split(".")[0] in allowed, f"{module} imports {name}"


def test_the_rules_name_every_part() -> None:
    assert {part_of(m) for m in MODULES} - {"native"} == set(MAY_IMPORT)


def test_the_rules_have_no_cycle() -> None:
    """Each part comes after all that it imports."""
    left = {part: set(parts.split()) for part, parts in MAY_IMPORT.items()}
    while left:
        free = {part for part, needs in left.items() if not needs & left.keys()}
        assert free, f"a cycle within {sorted(left)}"
        left = {part: needs for part, needs in left.items() if part not in free}
