"""Convert .pt2 files: exported torch programs, which are not trusted.

torch's reader may unpickle, load shared libraries, look up any function that a file names and
evaluate expressions that it holds. Unless the file is trusted, its archive is read here first, and
whatever is not plain tensors, ATen operators and arithmetic on sizes is refused.
"""

from __future__ import annotations

import ast
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from lightrnn.errors import ConversionError
from lightrnn_converters.optional import require
from lightrnn_converters.save import Destination, Text
from lightrnn_converters.torch_frontend import TorchGraph, convert_torch_graphs

_MEMBERS = re.compile(
    r"[^/]+/(models/model\.json|data/(weights|constants)/\w+(\.json)?|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|version|\.data/\w+)$"
)
_TARGETS = re.compile(r"torch\.ops\.aten\.\w+\.\w+$|_operator\.\w+$|torch\.sym_\w+$")
_EXPRESSION_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Name,
    ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Call, ast.keyword,
)  # fmt: skip
_FUNCTIONS = frozenset({
    "Symbol", "Integer", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv",
    "CleanDiv", "CeilDiv", "ModularIndexing", "IntTrueDiv", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "And", "Or", "Not", "Where", "ToFloat", "TruncToInt", "CeilToInt", "FloorToInt",
})  # fmt: skip
_TRUST = "; convert it with trust=True (--trust) only if you trust whoever made it"


def convert_pt2(
    source: str | os.PathLike[str],
    destination: Destination,
    *,
    trust: bool = False,
    example_inputs: Any = (),
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dtype: str = "float32",
    states: Mapping[str, str] | None = None,
    text: Text = None,
    metadata: Mapping[str, str] | None = None,
    verify: bool = True,
    graph_name: str = "main",
) -> None:
    """Convert an exported program, saved by torch.export.save, to .lrnn.

    trust: let torch read the file in any way it can, which may run code that the file holds.
    example_inputs: inputs to verify with, by default those in the file. Sizes that the program
    fixed stay fixed. Other arguments are those of `convert_torch`.

    Raises ConversionError, VerificationError, or OSError where the file cannot be read.
    """
    program = load_program(source, trust=trust)
    if not len(example_inputs) and program.example_inputs is None:
        raise ConversionError(f"{os.fspath(source)} holds no example inputs: pass example_inputs")
    graph = TorchGraph(
        program, example_inputs, None, input_names=input_names, output_names=output_names,
        states=states,
    )  # fmt: skip
    convert_torch_graphs(
        {graph_name: graph}, destination, dtype=dtype, text=text, metadata=metadata, verify=verify
    )


def load_program(source: str | os.PathLike[str], *, trust: bool = False) -> Any:
    """The exported program in a file. Raises ConversionError for what is not safe to read."""
    torch = require("torch")
    path = os.fspath(source)
    try:
        if trust:
            return torch.export.load(path)
        _inspect(path)
        with _plain_tensors_only(torch):
            program = torch.export.load(path)
    except (ConversionError, OSError):
        raise
    except Exception as error:  # torch raises classes of many modules
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"{path} is not a program that torch can read: {first}") from error
    # Guards are source code that torch would run, and sizes are checked by lightrnn itself.
    program._guards_code = []
    return program


def _inspect(path: str) -> None:
    """Raise ConversionError for anything in an archive but tensors and a graph of ATen calls."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ConversionError(f"{path} is not a .pt2 file") from None
    with archive:
        names = archive.namelist()
        for name in names:
            if not _MEMBERS.match(name) or names.count(name) > 1:
                raise ConversionError(f"{path}: member {name!r} is not one that is read{_TRUST}")
        for name in names:
            if name.endswith(".json"):
                for problem in _problems(json.loads(archive.read(name))):
                    raise ConversionError(f"{path}: {name}: {problem}{_TRUST}")


def _problems(value: Any) -> Iterator[str]:
    """What in a JSON document torch would unpickle, look up or evaluate."""
    if isinstance(value, list):
        for item in value:
            yield from _problems(item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "use_pickle" and item is not False:
            yield "a tensor that is pickled"
        elif key == "target" and not (isinstance(item, str) and _TARGETS.match(item)):
            yield f"a call of {item!r}"
        elif key in ("as_custom_obj", "as_graph", "as_operator", "as_script_object"):
            yield f"an argument of kind {key}"
        elif key == "expr_str" and not _is_arithmetic(item):
            yield f"the expression {item!r}"
        elif key != "guards_code":
            yield from _problems(item)


def _is_arithmetic(text: Any) -> bool:
    """Whether an expression is arithmetic on sizes and nothing else."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return False
    nodes = list(ast.walk(tree))
    calls = [n.func for n in nodes if isinstance(n, ast.Call)]
    return all(isinstance(n, _EXPRESSION_NODES) for n in nodes) and all(
        isinstance(f, ast.Name) and f.id in _FUNCTIONS for f in calls
    )


@contextmanager
def _plain_tensors_only(torch: Any) -> Iterator[None]:
    """Let torch.load read tensors and never unpickle anything else."""
    original = torch.load

    def load(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "weights_only": True})

    with mock.patch.object(torch, "load", load):
        yield
