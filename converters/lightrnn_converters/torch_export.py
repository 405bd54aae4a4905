"""Export a torch module to ONNX by torch's own exporter, with recurrent layers kept whole."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from lightrnn.errors import ConversionError, LightRNNError
from lightrnn_converters.optional import first_line
from lightrnn_converters.torch_recurrent import keep_recurrent
from lightrnn_converters.torch_translate import translations

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


def export(torch: Any, module: Any, call: Call, shapes: Any, *, ones_vary: bool) -> Any:
    """The exported program of a module.

    shapes: dynamic_shapes of torch.export, in which strings name sizes; None where all may vary.
    ones_vary: whether sizes of 1 in the example may vary too; then the program may be wrong where
    the module treats them in a way of their own.
    """
    args, kwargs = call
    if shapes is None:
        shapes = _all_dynamic(torch, kwargs or args)
    free = torch.export.Dim.AUTO
    shapes = torch.utils._pytree.tree_map(lambda d: free if isinstance(d, str) else d, shapes)
    config = torch.fx.experimental._config.patch(backed_size_oblivious=ones_vary)
    try:
        with keep_recurrent(), config:
            return torch.export.export(
                module, args, kwargs or None, dynamic_shapes=shapes, strict=False
            )
    except LightRNNError:
        raise
    except Exception as error:  # torch raises classes of many modules
        raise ConversionError(
            f"torch.export cannot export the module: {first_line(error)}; control flow that"
            " depends on values, or on Python objects other than tensors, cannot be exported:"
            " convert the parts of the model on either side of it as graphs of one file"
        ) from error


def has_constraints(torch: Any, shapes: Any) -> bool:
    """Whether dynamic_shapes demand of torch that sizes vary."""
    return any(isinstance(d, torch.export.Dim) for d in torch.utils._pytree.tree_leaves(shapes))


def _all_dynamic(torch: Any, arguments: Any) -> Any:
    def sizes(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        return dict.fromkeys(range(leaf.dim()), torch.export.Dim.AUTO)

    return torch.utils._pytree.tree_map(sizes, arguments)


def to_onnx(
    torch: Any,
    program: Any,
    input_names: Sequence[str] | None,
    output_names: Sequence[str],
    shapes: Any,
) -> Any:
    """What torch makes of a program: an ONNXProgram. shapes: as above, for the names in it."""
    try:
        return torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=None if input_names is None else list(input_names),
            output_names=list(output_names),
            dynamic_shapes=shapes,
            custom_translation_table=translations(),
        )
    except LightRNNError:
        raise
    except Exception as error:  # as above
        raise ConversionError(
            f"torch.onnx cannot translate the module: {first_line(error)}"
        ) from error


def output_names(torch: Any, program: Any) -> list[str]:
    """Names by the place of each tensor in what the module returns."""
    pytree = torch.utils._pytree
    spec = program.call_spec.out_spec
    kinds = [s.arg for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    values = [getattr(k, "value", k) for k in kinds]
    tree = pytree.tree_unflatten(values, spec)
    names = []
    for path, value in pytree.tree_flatten_with_path(tree)[0]:
        if value is not None:
            keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path]
            names.append("_".join(keys if keys and not keys[0].isdigit() else ["output", *keys]))
    return names


@contextmanager
def quiet() -> Iterator[None]:
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


def arguments(torch: Any, module: Any, given: Any) -> Call:
    """What a module is called with, from a tensor, a tuple or a mapping."""
    if is_program(torch, module) and module.example_inputs and not len(given):
        args, kwargs = module.example_inputs
        return tuple(args), dict(kwargs)
    if isinstance(given, torch.Tensor):
        return (given,), {}
    if isinstance(given, Mapping):
        return (), dict(given)
    return tuple(given), {}


def is_program(torch: Any, module: Any) -> bool:
    return isinstance(module, torch.export.ExportedProgram)
