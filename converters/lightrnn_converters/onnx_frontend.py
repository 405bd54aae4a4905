"""Convert ONNX models: load, lift, read, simplify, check, verify, write."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError, GraphError, UnsupportedError
from lightrnn.graph import Array, Dim, Graph, TensorType
from lightrnn.graph.check import check
from lightrnn.ops import build
from lightrnn.ops.narrow import NARROW
from lightrnn.record import replace
from lightrnn_converters import constants, dimensions, microsoft
from lightrnn_converters.bound import record
from lightrnn_converters.find_states import find_states
from lightrnn_converters.lift import lift
from lightrnn_converters.places import places
from lightrnn_converters.reader import Reader
from lightrnn_converters.report import RTOL
from lightrnn_converters.save import Destination, Storage, Text, check_storage, save
from lightrnn_converters.simplify import simplify
from lightrnn_converters.sizes import finer
from lightrnn_converters.source import Source, load
from lightrnn_converters.verify import verify_onnx

_log = logging.getLogger("lightrnn")


def convert_onnx(
    source: Source | Mapping[str, Source],
    destination: Destination,
    *,
    dtype: Storage = "float32",
    bind: Mapping[str, Any] | None = None,
    dims: Mapping[str, Any] | None = None,
    states: Mapping[str, Any] | None = None,
    text: Text = None,
    metadata: Mapping[str, str] | None = None,
    verify: bool = True,
    graph_name: str = "main",
) -> None:
    """Convert an ONNX model, or several as graphs of one file, to .lrnn.

    source: a path, bytes or ModelProto; or graph names to these. Then `bind`, `dims` and `states`
    are by graph name too.
    destination: a path or a binary file object.
    dtype: how float weights are stored: float32, float16, bfloat16, int16, int8, or int16+int8,
    which is int16 but for recurrent weights of gates; or patterns of their names (`lightrnn
    inspect` lists them) to these, the first that matches counts.
    bind: input name to the value that it always has; what depends on it is computed now. The file's
    metadata lists them.
    dims: name of a dimension to its only size; x_1 is axis 1 of input x where it has no name.
    states: input name to the output that feeds it at the next step; by default the initial states
    of recurrent layers whose final states are outputs, where that is sure.
    text: task, tokenizer and labels, as lightrnn.text describes them. metadata: text of your own.
    verify: compare with onnxruntime, where it is installed, before the file is written.

    Raises ConversionError; one that names every node lightrnn cannot compute; VerificationError.
    """
    check_storage(dtype)
    sources = source if isinstance(source, Mapping) else {graph_name: source}
    several = isinstance(source, Mapping)
    graphs: dict[str, Graph] = {}
    references: dict[str, tuple[Any, Mapping[str, Any]]] = {}
    for name, one in sources.items():
        fixed, sizes, pairs = (
            dict((given or {}).get(name, {}) if several else (given or {}))
            for given in (bind, dims, states)
        )
        model = load(one)
        graph = read(model, bind=fixed, dims=sizes, states=pairs)
        graphs[name] = graph if states is not None else with_found_states(graph)
        references[name] = (model, fixed)
    if several:
        for given in (bind, dims, states):
            _check_names(given or {}, sources, "graph")
    if verify:
        for name, (model, values) in references.items():
            loose = microsoft.APPROXIMATE if microsoft.is_approximate(model) else RTOL
            verify_onnx(graphs[name], model, values, loose)
    values = {name: fixed for name, (_, fixed) in references.items()}
    given = {**record(values), **(metadata or {})}
    save(destination, graphs, dtype=dtype, text=text, metadata=given)


def read(
    model: Any,
    *,
    bind: Mapping[str, Any] | None = None,
    dims: Mapping[str, int] | None = None,
    states: Mapping[str, str] | None = None,
) -> Graph:
    """The simplified, checked graph of a loaded ModelProto. Raises as `convert_onnx` does."""
    declared = _inputs(model.graph, dims or {})
    fixed = _bound(declared, bind or {})
    lifted = lift(model).graph
    reader = Reader(places(model.graph))
    numbers = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    for name, kind in declared.items():
        reader.declare(name, kind, numbers[name])
        if name in fixed:
            reader.know(name, fixed[name])
    names = reader.read(lifted, {name: name for name in declared})
    seen: set[str] = set()
    for output in lifted.output:
        _require_tensor(output, "output")
        if output.name in seen:
            raise ConversionError(f"output {output.name!r} is listed twice")
        seen.add(output.name)
        if output.name not in names:
            raise ConversionError(f"output {output.name!r} is not computed")
    graph = Graph(
        inputs={n: t for n, t in declared.items() if n not in fixed},
        outputs={o.name: _known(reader, o.name) for o in lifted.output},
        nodes=tuple(reader.nodes),
        constants=reader.constants,
        states=dict(states or {}),
    )
    _check_states(graph)
    graph = _refuse_problems(graph, reader)
    _note_outputs(model.graph, graph)
    _note_carried(model.graph)
    return checked(_with_equal_sizes(simplify(graph), reader.types))


def with_found_states(graph: Graph) -> Graph:
    """The graph with the states that are sure, besides those that it has."""
    found = {
        name: output
        for name, output in find_states(graph).items()
        if name not in graph.states and output not in graph.states.values()
    }
    return replace(graph, states={**graph.states, **found})


def checked(graph: Graph) -> Graph:
    """The graph with the types of its outputs as its nodes give them. Raises ConversionError."""
    try:
        types = check(graph, build)
    except GraphError as error:
        raise ConversionError(f"the converted graph is not valid: {error}") from error
    return replace(
        graph, outputs={n: _valueless(finer(types.get(n, t), t)) for n, t in graph.outputs.items()}
    )


def _with_equal_sizes(graph: Graph, types: Mapping[str, TensorType]) -> Graph:
    """The graph with one name in its signature for sizes that its nodes take for one."""
    sizes = dimensions.same(graph.nodes, types)
    return replace(
        graph,
        inputs={n: dimensions.renamed(t, sizes) for n, t in graph.inputs.items()},
        outputs={n: dimensions.renamed(t, sizes) for n, t in graph.outputs.items()},
    )


def _known(reader: Reader, name: str) -> TensorType:
    kind = reader.types.get(name)
    return TensorType(np.dtype(np.float32), None) if kind is None else _valueless(kind)


def _valueless(kind: TensorType) -> TensorType:
    return TensorType(kind.dtype, kind.shape)


def _inputs(graph: Any, dims: Mapping[str, int]) -> dict[str, TensorType]:
    """Types of the inputs that have no initializer."""
    initialized = {i.name for i in graph.initializer}
    types: dict[str, TensorType] = {}
    for value in graph.input:
        if value.name in initialized:
            continue
        _require_tensor(value, "input")
        proto = value.type.tensor_type
        try:
            dtype = constants.element_type(proto.elem_type, carried=True)
        except UnsupportedError as error:
            raise ConversionError(f"input {value.name!r}: {error}") from None
        shape = tuple(_dim(d) for d in proto.shape.dim) if proto.HasField("shape") else None
        types[value.name] = TensorType(dtype, shape)
    types = dimensions.named(types)
    _check_names(dims, dimensions.names(types), "dimension")
    return {name: _sized(kind, dims) for name, kind in types.items()}


def _require_tensor(value: Any, what: str) -> None:
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        name = kind.removesuffix("_type")
        raise ConversionError(f"{what} {value.name!r}: {name} values are not supported")


def _sized(kind: TensorType, dims: Mapping[str, int]) -> TensorType:
    if kind.shape is None:
        return kind
    shape = (dims.get(d, d) if isinstance(d, str) else d for d in kind.shape)
    return TensorType(kind.dtype, tuple(shape))


def _dim(proto: Any) -> Dim:
    if proto.HasField("dim_value"):
        return int(proto.dim_value) if proto.dim_value >= 0 else None
    name = str(proto.dim_param)
    return int(name) if name.isdecimal() else name or None


def _bound(types: Mapping[str, TensorType], bind: Mapping[str, Any]) -> dict[str, Array]:
    """Values of bound inputs, in the inputs' types."""
    _check_names(bind, types, "input")
    values = {}
    for name, given in bind.items():
        kind = types[name]
        try:
            value = np.asarray(given).astype(kind.dtype, casting="same_kind")
        except (TypeError, ValueError) as error:
            raise ConversionError(f"value bound to input {name!r}: {error}") from None
        shape = kind.shape
        if shape is not None and value.ndim < len(shape) and value.size == 1:
            value = value.reshape((1,) * len(shape))
        if shape is not None and (
            len(shape) != value.ndim
            or any(isinstance(d, int) and d != s for d, s in zip(shape, value.shape, strict=True))
        ):
            raise ConversionError(f"value of shape {value.shape} bound to input {name!r}: {kind}")
        values[name] = value
    return values


def _check_names(given: Mapping[str, Any], known: Any, what: str) -> None:
    for name in given:
        if name not in known:
            listed = ", ".join(sorted({str(k) for k in known})) or "none"
            raise ConversionError(f"no {what} {name!r}, the model has {listed}")


def _check_states(graph: Graph) -> None:
    for name, output in graph.states.items():
        _check_names({name: output}, graph.inputs, "input")
        _check_names({output: name}, graph.outputs, "output")
        before, after = graph.inputs[name], graph.outputs[output]
        if not _may_be_one(before, after):
            raise ConversionError(
                f"state {name!r} is {before}, and {output!r}, which is to feed it, is {after}"
            )


def _may_be_one(a: TensorType, b: TensorType) -> bool:
    """Whether tensors of both types can be one tensor."""
    if a.dtype != b.dtype:
        return False
    if a.shape is None or b.shape is None:
        return True
    return len(a.shape) == len(b.shape) and all(
        x == y or not (isinstance(x, int) and isinstance(y, int))
        for x, y in zip(a.shape, b.shape, strict=True)
    )


def _refuse_problems(graph: Graph, reader: Reader) -> Graph:
    """Raise one UnsupportedError for all nodes that are needed and cannot be computed."""
    if found := reader.needed_problems(graph.outputs):
        listed = "\n  ".join(dict.fromkeys(found))
        count = f"{len(found)} nodes" if len(found) > 1 else "one node"
        raise UnsupportedError(f"{count} of the model cannot be converted:\n  {listed}")
    kept = tuple(n for k, n in enumerate(graph.nodes) if k not in reader.problems)
    return replace(graph, nodes=kept)


def _note_carried(declared: Any) -> None:
    """Log inputs and outputs whose element type is not the one that the source declares."""
    for value in (*declared.input, *declared.output):
        kind = NARROW.get(value.type.tensor_type.elem_type)
        if kind is not None:
            _log.info("%r is %s in the source and %s here", value.name, kind.name, kind.carrier)


def _note_outputs(declared: Any, graph: Graph) -> None:
    """Log outputs whose declared shape is not the one that is computed."""
    for value in declared.output:
        kind = graph.outputs.get(value.name)
        proto = value.type.tensor_type
        if kind is None or kind.shape is None or not proto.HasField("shape") or not proto.shape.dim:
            continue
        shape = tuple(_dim(d) for d in proto.shape.dim)
        pairs = zip(shape, kind.shape, strict=False)
        clash = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
        if len(shape) != len(kind.shape) or clash:
            _log.info("output %r is declared as %s and is %s", value.name, shape, kind)
