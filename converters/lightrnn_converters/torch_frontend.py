"""Convert torch modules: export with recurrent layers kept whole, then through ONNX."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError, LightRNNError
from lightrnn.graph import Array, Graph
from lightrnn_converters.onnx_frontend import read
from lightrnn_converters.optional import require
from lightrnn_converters.save import Destination, Text, check_storage, save
from lightrnn_converters.source import load
from lightrnn_converters.torch_nodes import TorchTensors
from lightrnn_converters.torch_recurrent import keep_recurrent
from lightrnn_converters.torch_reference import TorchReference, evaluating
from lightrnn_converters.torch_translate import translations
from lightrnn_converters.verify import generated, require_agreement

_log = logging.getLogger("lightrnn")

_SYMBOL = re.compile(r"[su]\d+$")
"""Names that torch makes up for sizes."""


@dataclass(frozen=True)
class TorchGraph:
    """One graph to convert: a torch module and an example of what it is called with.

    module: an nn.Module, or an ExportedProgram, whose shapes are as they were exported.
    example_inputs: a tensor, the tuple of positional arguments, or a mapping of keyword arguments.
    dynamic_shapes: as torch.export takes them; by default every size may vary that torch does not
    prove fixed. A size of 1 or 0 in the example counts as fixed.
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
    args, kwargs = _arguments(torch, source)
    with evaluating(source.module), _quiet(), torch.no_grad():
        program = _exported(torch, source, args, kwargs)
        outputs = list(source.output_names or _output_names(torch, program))
        exported = _onnx(torch, program, source.input_names, outputs)
    proto = exported.model_proto
    _name_sizes(proto)
    graph = read(load(proto), states=source.states)
    if verify:
        names = [i.name for i in proto.graph.input]
        run = program.module() if _is_program(torch, source.module) else source.module
        reference = TorchReference(run, names, list(graph.outputs), (args, kwargs))
        examples = _examples(torch, names, (args, kwargs))
        with _quiet():
            trials = list(generated(graph, reference, examples))
            require_agreement(
                graph, trials, "torch", lambda: TorchTensors(exported.exported_program, names)
            )
    return graph


def _arguments(torch: Any, source: TorchGraph) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = source.example_inputs
    if _is_program(torch, source.module) and source.module.example_inputs and not len(given):
        args, kwargs = source.module.example_inputs
        return tuple(args), dict(kwargs)
    if isinstance(given, torch.Tensor):
        return (given,), {}
    if isinstance(given, Mapping):
        return (), dict(given)
    return tuple(given), {}


def _is_program(torch: Any, module: Any) -> bool:
    return isinstance(module, torch.export.ExportedProgram)


def _exported(torch: Any, source: TorchGraph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _is_program(torch, source.module):
        return source.module
    if not isinstance(source.module, torch.nn.Module):
        raise ConversionError(f"cannot convert a {type(source.module).__name__}, expected a module")
    shapes = source.dynamic_shapes
    if shapes is None:
        shapes = _all_dynamic(torch, args, kwargs)
    try:
        with keep_recurrent():
            return torch.export.export(
                source.module, args, kwargs or None, dynamic_shapes=shapes, strict=False
            )
    except LightRNNError:
        raise
    except Exception as error:  # torch raises classes of many modules
        raise ConversionError(
            f"torch.export cannot export the module: {_first_line(error)}; control flow that"
            " depends on values, or on Python objects other than tensors, cannot be exported:"
            " convert the parts of the model on either side of it as graphs of one file"
        ) from error


def _all_dynamic(torch: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def sizes(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        return dict.fromkeys(range(leaf.dim()), torch.export.Dim.AUTO)

    tree_map = torch.utils._pytree.tree_map
    if not kwargs:
        return tree_map(sizes, args)
    return tree_map(sizes, kwargs)


def _onnx(
    torch: Any, program: Any, input_names: Sequence[str] | None, output_names: Sequence[str]
) -> Any:
    try:
        return torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=None if input_names is None else list(input_names),
            output_names=list(output_names),
            custom_translation_table=translations(),
        )
    except LightRNNError:
        raise
    except Exception as error:  # as above
        raise ConversionError(
            f"torch.onnx cannot translate the module: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _output_names(torch: Any, program: Any) -> list[str]:
    """Names by the place of each tensor in what the module returns."""
    from torch.utils import _pytree

    spec = program.call_spec.out_spec
    kinds = [s.arg for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    values = [getattr(k, "value", k) for k in kinds]
    tree = _pytree.tree_unflatten(values, spec)
    names = []
    for path, value in _pytree.tree_flatten_with_path(tree)[0]:
        if value is not None:
            keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path]
            names.append("_".join(keys if keys and not keys[0].isdigit() else ["output", *keys]))
    return names


def _name_sizes(proto: Any) -> None:
    """Call the sizes that torch numbered after the first input and axis that have them."""
    names: dict[str, str] = {}
    for value in [*proto.graph.input, *proto.graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if _SYMBOL.match(dim.dim_param):
                dim.dim_param = names.setdefault(dim.dim_param, f"{value.name}_{axis}")


def _examples(torch: Any, names: Sequence[str], arguments: Any) -> dict[str, Array]:
    leaves = torch.utils._pytree.tree_leaves(arguments)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return {
        name: np.asarray(t.detach().cpu().numpy()) for name, t in zip(names, tensors, strict=True)
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log lines that torch's exporters write."""
    loggers = [logging.getLogger(n) for n in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
