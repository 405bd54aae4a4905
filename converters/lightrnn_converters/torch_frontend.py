"""Convert torch modules: export with recurrent layers kept whole, then through ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError
from lightrnn.graph import Array, Graph
from lightrnn_converters.onnx_frontend import read
from lightrnn_converters.optional import require
from lightrnn_converters.save import Destination, Text, check_storage, save
from lightrnn_converters.source import load
from lightrnn_converters.torch_export import (
    Call,
    arguments,
    export,
    has_constraints,
    is_program,
    output_names,
    quiet,
    to_onnx,
)
from lightrnn_converters.torch_nodes import TorchTensors
from lightrnn_converters.torch_reference import TorchReference, evaluating
from lightrnn_converters.torch_sizes import Trials, sizes_of
from lightrnn_converters.verify import require_agreement


@dataclass(frozen=True)
class TorchGraph:
    """One graph to convert: a torch module and an example of what it is called with.

    module: an nn.Module, or an ExportedProgram, whose shapes are as they were exported.
    example_inputs: a tensor, the tuple of positional arguments, or a mapping of keyword arguments.
    dynamic_shapes: as torch.export takes them, or with strings to name sizes; by default every size
    may vary that torch does not prove fixed and at which the module runs.
    input_names, output_names: one for each tensor; by default the arguments' names, and "output",
    "output_0" and so on, or the keys of a dict.
    states: input name to the output that feeds it at the next step.
    """

    module: Any
    example_inputs: Any = ()
    dynamic_shapes: Any = None
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    states: Mapping[str, str] | None = None


def convert_torch(
    module: Any,
    example_inputs: Any,
    destination: Destination,
    *,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dtype: str = "float32",
    states: Mapping[str, str] | None = None,
    text: Text = None,
    metadata: Mapping[str, str] | None = None,
    verify: bool = True,
    graph_name: str = "main",
) -> None:
    """Convert a torch module to .lrnn. Arguments are those of `TorchGraph` and `convert_onnx`.

    The module is traced in evaluation mode and left as it was. Unless verify is False, it is
    compared with the converted graph at the example's sizes and at two others before the file is
    written. Raises ConversionError, UnsupportedError or VerificationError.
    """
    graph = TorchGraph(module, example_inputs, dynamic_shapes, input_names, output_names, states)
    convert_torch_graphs(
        {graph_name: graph}, destination, dtype=dtype, text=text, metadata=metadata, verify=verify
    )


def convert_torch_graphs(
    sources: Mapping[str, TorchGraph],
    destination: Destination,
    *,
    dtype: str = "float32",
    text: Text = None,
    metadata: Mapping[str, str] | None = None,
    verify: bool = True,
) -> None:
    """Convert several modules as graphs of one file, which share equal weights."""
    check_storage(dtype)
    graphs = {name: graph_of(source, verify=verify) for name, source in sources.items()}
    save(destination, graphs, dtype=dtype, text=text, metadata=metadata)


def graph_of(source: TorchGraph, *, verify: bool = True) -> Graph:
    """The converted graph of one module. Raises as `convert_torch` does."""
    torch = require("torch")
    require("onnxscript")
    if not isinstance(source.module, torch.nn.Module) and not is_program(torch, source.module):
        raise ConversionError(f"cannot convert a {type(source.module).__name__}, expected a module")
    call = arguments(torch, source.module, source.example_inputs)
    if not has_constraints(torch, source.dynamic_shapes):
        try:
            return _graph(torch, source, call, ones_vary=True, verify=verify)
        except ConversionError:
            if all(1 not in t.shape for t in _tensors(torch, call)):
                raise
    return _graph(torch, source, call, ones_vary=False, verify=verify)


def _graph(torch: Any, source: TorchGraph, call: Call, *, ones_vary: bool, verify: bool) -> Graph:
    module, shapes = source.module, source.dynamic_shapes
    with evaluating(module), quiet(), torch.no_grad():
        program = module
        if not is_program(torch, module):
            program = export(torch, module, call, shapes, ones_vary=ones_vary)
        outputs = list(source.output_names or output_names(torch, program))
        exported = to_onnx(torch, program, source.input_names, outputs, shapes)
    proto = exported.model_proto
    names = [i.name for i in proto.graph.input]
    sizes = sizes_of(program, names)
    sizes.declare(proto)
    graph = read(load(proto), states=source.states)
    if not verify:
        return graph
    run = module.module() if program is module else module
    reference = TorchReference(run, names, list(graph.outputs), call)
    with quiet():
        trials = Trials(graph, reference, sizes, _examples(names, _tensors(torch, call)))
    if trials.sizes != sizes:
        trials.sizes.declare(proto)
        graph = read(load(proto), states=source.states)
    with quiet():
        require_agreement(
            graph, trials.done, "torch", lambda: TorchTensors(exported.exported_program, names)
        )
    return graph


def _tensors(torch: Any, call: Call) -> list[Any]:
    leaves = torch.utils._pytree.tree_leaves(call)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _examples(names: Sequence[str], tensors: Sequence[Any]) -> dict[str, Array]:
    arrays = (np.asarray(t.detach().cpu().numpy()) for t in tensors)
    return dict(zip(names, arrays, strict=True))
