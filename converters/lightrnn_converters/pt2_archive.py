"""Read .pt2 archives as data: tensors, and a graph of calls that do nothing but compute.

torch's reader unpickles what a file marks as pickled, looks up functions and modules that it names
and evaluates the expressions in it. So an archive is checked here first, member by member, and
written anew from what was checked: torch's reader never sees the file itself.
"""

from __future__ import annotations

import ast
import functools
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from lightrnn.errors import ConversionError

_MEMBERS = re.compile(
    r"[^/]+/(models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|version|\.data/\w+)"
)
_PAYLOADS = re.compile(r"(weight|tensor)_\d+")
_OPERATORS = re.compile(r"torch\.ops\.(aten\.\w+)\.\w+")
_ARITHMETIC = frozenset(
    f"_operator.{name}"
    for name in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "eq", "ne", "lt",
        "le", "gt", "ge", "and_", "or_", "getitem",
    )
) | {"torch.sym_float", "torch.sym_int", "torch.sym_ite", "torch.sym_max", "torch.sym_min",
     "torch.sym_not", "torch.sym_sqrt", "math.ceil", "math.floor", "math.trunc"}  # fmt: skip
_FILES = frozenset({"aten.from_file", "aten.save", "aten.load"})
"""Operators that open files."""

_CONTAINERS = frozenset({
    None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict",
})  # fmt: skip
"""Types in the structure of arguments and results that torch does not look up."""

_EXPRESSION_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Name,
    ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Call, ast.keyword,
)  # fmt: skip
_FUNCTIONS = frozenset({
    "Symbol", "Integer", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv",
    "CleanDiv", "CeilDiv", "ModularIndexing", "IntTrueDiv", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "And", "Or", "Not", "Where", "ToFloat", "TruncToInt", "CeilToInt", "FloorToInt",
})  # fmt: skip
_LONGEST = 2000
"""Characters of an expression."""
_MOST_POWERS = 8
"""Powers in an expression, each of which can double the digits of a number."""

TRUST = "; convert it with trust=True (--trust) only if you trust whoever made it"


def checked(path: str) -> io.BytesIO:
    """A copy of an archive in which nothing can run.

    Raises ConversionError for anything in it but tensors and a graph of plain calls, and OSError
    where the file cannot be read.
    """
    with open(path, "rb") as file:
        data = io.BytesIO(file.read())
    try:
        return _copy(path, data)
    except ConversionError:
        raise
    except Exception as error:  # zipfile raises classes of several modules for damaged files
        raise ConversionError(f"{path} is not a .pt2 file, or is damaged: {error}") from None


def _copy(path: str, source: io.BytesIO) -> io.BytesIO:
    copy = io.BytesIO()
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(copy, "w") as target:
        _check_members(path, archive)
        sizes = {i.filename: i.file_size for i in archive.infolist()}
        for name in sizes:
            data = archive.read(name)
            if name.endswith(".json"):
                data = _checked_json(f"{path}: {name}", data, sizes)
            target.writestr(name, data)
    copy.seek(0)
    return copy


def _check_members(path: str, archive: zipfile.ZipFile) -> None:
    names = [i.filename for i in archive.infolist()]
    for info in archive.infolist():
        name = info.filename
        if not _MEMBERS.fullmatch(name) or names.count(name) > 1:
            raise ConversionError(f"{path}: member {name!r} is not one that is read{TRUST}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ConversionError(f"{path}: member {name!r} is compressed, as torch never does")
    if len({name.partition("/")[0] for name in names}) > 1:
        raise ConversionError(f"{path}: its members lie in more than one folder")


def _checked_json(what: str, data: bytes, sizes: dict[str, int]) -> bytes:
    """A JSON document without the Python source that torch adds to check inputs."""
    try:
        document = json.loads(data)
        problem = next(_problems(document), None) or next(_oversized(document, sizes), None)
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{what}: {type(error).__name__}: {error}") from None
    if problem is not None:
        raise ConversionError(f"{what}: {problem}{TRUST}")
    if isinstance(document, dict) and "guards_code" in document:
        document["guards_code"] = []
    return json.dumps(document).encode()


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
        elif key == "path_name" and not _matches(_PAYLOADS, item):
            yield f"the member {item!r} as a tensor"
        elif key == "target" and not _is_plain_call(item):
            yield f"a call of {item!r}"
        elif key in ("as_custom_obj", "as_graph", "as_operator", "as_script_object"):
            yield f"an argument of kind {key}"
        elif key in ("in_spec", "out_spec") and not _is_plain_structure(item):
            yield f"arguments or results of the structure {item!r}"
        elif key == "expr_str" and not _is_arithmetic(item):
            yield f"the expression {item!r}"
        elif key != "guards_code":
            yield from _problems(item)


def _oversized(document: Any, sizes: dict[str, int]) -> Iterator[str]:
    """Tensors with more elements than their members have bytes."""
    members = {name.rpartition("/")[2]: size for name, size in sizes.items()}
    config = document.get("config") if isinstance(document, dict) else None
    for name, payload in (config or {}).items():
        shape = [s["as_int"] for s in payload["tensor_meta"]["sizes"]]
        if math.prod(shape) > members.get(payload["path_name"], 0):
            yield f"tensor {name!r} of shape {shape}, more than its member holds"


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_plain_call(target: Any) -> bool:
    """Whether a call computes on numbers and tensors alone."""
    if target in _ARITHMETIC:
        return True
    found = _OPERATORS.fullmatch(target) if isinstance(target, str) else None
    return found is not None and found[1] not in _FILES and _is_dispatched(found[1])


def _is_dispatched(name: str) -> bool:
    """Whether torch computes an operator, which the interpreter of TorchScript does not."""
    return name.replace(".", "::") in _dispatched()


@functools.cache
def _dispatched() -> frozenset[str]:
    import torch

    return frozenset(n.partition(".")[0] for n in torch._C._dispatch_get_all_op_names())


def _is_plain_structure(text: Any) -> bool:
    """Whether a structure, as torch writes it, is made of tuples, lists and dicts with strings."""
    if text is None or text == "":
        return True
    try:
        _version, spec = json.loads(text)
        return _is_plain_spec(spec)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _is_plain_spec(spec: Any) -> bool:
    context = spec["context"]
    keys = json.loads(context) if isinstance(context, str) else context
    plain = keys is None or (isinstance(keys, list) and all(isinstance(k, str | int) for k in keys))
    return spec["type"] in _CONTAINERS and plain and all(map(_is_plain_spec, spec["children_spec"]))


def _is_arithmetic(text: Any) -> bool:
    """Whether an expression is arithmetic on sizes and nothing else."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(tree))
    return sum(map(_is_power, nodes)) <= _MOST_POWERS and all(map(_is_harmless, nodes))


def _is_power(node: ast.AST) -> bool:
    return isinstance(node, ast.Pow) or (isinstance(node, ast.Name) and node.id == "Pow")


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        bad_power = _is_power(node.func) and not (len(node.args) == 2 and _is_small(node.args[1]))
        return known and not bad_power
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _is_small(node.right)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.isidentifier()  # sympy evaluates strings
    return isinstance(node, _EXPRESSION_NODES)


def _is_small(node: ast.AST) -> bool:
    """Whether an exponent cannot make a number that takes long to compute."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _is_small(node.args[0])
    return isinstance(node, ast.Constant) and node.value in (0, 1, 2)
