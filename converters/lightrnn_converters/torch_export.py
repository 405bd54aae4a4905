"""Export a torch module to ONNX by torch's own exporter, with recurrent layers kept whole."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightrnn.errors import ConversionError, LightRNNError
from lightrnn_converters.optional import first_line
from lightrnn_converters.torch_call import Call, bound_arguments
from lightrnn_converters.torch_names import rename
from lightrnn_converters.torch_recurrent import keep_recurrent
from lightrnn_converters.torch_translate import translations


def export(torch: Any, module: Any, call: Call, shapes: Any, *, ones_vary: bool) -> Any:
    """The exported program of a module.

    shapes: dynamic_shapes of torch.export, in which strings name sizes; None where all may vary.
    ones_vary: whether sizes of 1 in the example may vary too; then the program may be wrong where
    the module treats them in a way of their own.
    """
    args, kwargs = call.args, call.kwargs
    if shapes is None:
        shapes = _all_dynamic(torch, dict(bound_arguments(module, call).arguments))
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
    torch: Any, program: Any, inputs: Sequence[str], outputs: Sequence[str], shapes: Any
) -> Any:
    """The ModelProto of a program, its inputs and outputs under these names, and torch's program.

    shapes: as above, for the names in it.
    """
    drafts = {f"input:{k}": name for k, name in enumerate(inputs)}
    drafts |= {f"output:{k}": name for k, name in enumerate(outputs)}
    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=list(drafts)[: len(inputs)],
            output_names=list(drafts)[len(inputs) :],
            dynamic_shapes=shapes,
            custom_translation_table=translations(),
        )
        proto = exported.model_proto
        rename(proto, drafts)
        return proto, exported.exported_program
    except LightRNNError:
        raise
    except Exception as error:  # as above
        raise ConversionError(
            f"torch.onnx cannot translate the module: {first_line(error)}"
        ) from error


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
