"""Convert torch modules: export with recurrent layers kept whole, then through ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightrnn.errors import ConversionError
from lightrnn.graph import Graph
from lightrnn_converters.onnx_frontend import read, with_found_states
from lightrnn_converters.optional import require
from lightrnn_converters.save import Destination, Storage, Text, check_storage, save
from lightrnn_converters.source import load
from lightrnn_converters.torch_call import check_module, check_tensors, example_call
from lightrnn_converters.torch_carry import require_agreement_in_a_row, without_idle_states
from lightrnn_converters.torch_export import export, freedoms, quiet, to_onnx
from lightrnn_converters.torch_names import chosen, distinct, input_names
from lightrnn_converters.torch_names import outputs as outputs_of
from lightrnn_converters.torch_nodes import TorchTensors
from lightrnn_converters.torch_reference import TorchReference
from lightrnn_converters.torch_sizes import Trials, sizes_of
from lightrnn_converters.torch_state import check_start
from lightrnn_converters.torch_subject import Subject, subject_of
from lightrnn_converters.torch_untouched import evaluating
from lightrnn_converters.verify import require_agreement, require_agreement_beyond


@dataclass(frozen=True)
class TorchGraph:
    """One graph to convert: a torch module and an example of what it is called with.

    module: an nn.Module, or an ExportedProgram, whose shapes are as they were exported.
    example_inputs: a tensor, the tuple of positional arguments, or a mapping of keyword arguments.
    dynamic_shapes: as torch.export takes them, or with strings to name sizes; by default every size
    may vary that torch does not prove fixed and at which the module runs.
    input_names, output_names: one for each tensor; by default the arguments' names, and "output",
    "output_0" and so on, or the keys of a dict.
    states: input name to the output that feeds it at the next step; by default the initial states
    of recurrent layers whose final states are returned, where that is sure. State that the module
    keeps in its attributes becomes inputs and outputs of its own, always.
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
    dtype: Storage = "float32",
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
    dtype: Storage = "float32",
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
    module = getattr(source.module, "_orig_mod", source.module)  # of a compiled module
    if isinstance(module, torch.export.ExportedProgram):
        call = example_call(torch, module, source.example_inputs)
        return _converted(torch, source, module, Subject(module, call, None), module, verify)
    check_module(torch, module)
    call = example_call(torch, module, source.example_inputs)
    check_tensors(torch, module, call)
    with quiet():
        subject = subject_of(torch, module, call, source.dynamic_shapes)
    failed: ConversionError | None = None
    for freedom in freedoms(torch, source.dynamic_shapes, call):
        try:
            with evaluating(module), quiet(), torch.no_grad():
                program = export(torch, subject.module, subject.call, subject.shapes, freedom)
            return _converted(torch, source, module, subject, program, verify)
        except ConversionError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _converted(
    torch: Any, source: TorchGraph, module: Any, subject: Subject, program: Any, verify: bool
) -> Graph:
    """The graph of a program, compared with the module."""
    states = subject.states(torch)
    names = input_names(program) if subject.inputs is None else list(subject.inputs)
    own = chosen(names[: len(names) - len(states)], source.input_names, "input")
    inputs = [*own, *states]
    places = subject.output_names(torch, outputs_of(torch, program))
    results = distinct(inputs, places[: len(places) - len(states)])
    results = chosen(results, source.output_names, "output")
    outputs = [*results, *states.values()]
    with quiet(), torch.no_grad():
        proto, translated = to_onnx(torch, program, inputs, outputs, subject.shapes)
    sizes = sizes_of(program, inputs)
    sizes.declare(proto)
    pairs = {**states, **(source.states or {})}
    graph = read(load(proto), states=pairs)
    if verify:
        run = program.module() if subject.module is program else subject.module
        reference = TorchReference(run, inputs, outputs, subject.call)
        examples = dict(zip(inputs, subject.call.arrays(torch), strict=True))
        with quiet():
            trials = Trials(graph, reference, sizes, examples)
        settled = trials.sizes.with_fixed(list(states))
        if settled != sizes:
            settled.declare(proto)
            graph = read(load(proto), states=pairs)
        with quiet():
            require_agreement(
                graph, trials.done_within(settled), "torch",
                lambda: TorchTensors(translated, inputs, outputs),
            )  # fmt: skip
            for guard, trial in trials.beyond:
                require_agreement_beyond(graph, guard, trial)
    if states:
        graph = without_idle_states(graph, list(states))
        check_start(torch, subject.slots, set(graph.states))
    if verify and subject.module is not program:
        reference = TorchReference(module, own, results, subject.original)
        with quiet():
            require_agreement_in_a_row(graph, reference, trials.done[0][0])
    return graph if source.states is not None else with_found_states(graph)
