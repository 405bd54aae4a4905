"""Export a torch module to ONNX by torch's own exporter, with recurrent layers kept whole."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

from lightrnn.errors import LightRNNError
from lightrnn_converters.torch_call import Call, bound_arguments
from lightrnn_converters.torch_names import rename
from lightrnn_converters.torch_problems import not_exported, not_translated
from lightrnn_converters.torch_recurrent import keep_recurrent
from lightrnn_converters.torch_translate import translations


@dataclass(frozen=True)
class Freedom:
    """Which sizes torch.export may take for variable, where dynamic_shapes do not say.

    ones: sizes of 1 in the example; then the program may be wrong where the module treats them in a
    way of their own. features: the last size of tensors of three axes or more.
    """

    ones: bool = True
    features: bool = True


def freedoms(torch: Any, shapes: Any, call: Call) -> Iterator[Freedom]:
    """What to try in turn for a module called so, given its dynamic_shapes."""
    leaves = torch.utils._pytree.tree_leaves(shapes)
    demanded = any(isinstance(d, torch.export.Dim) for d in leaves)
    tensors = call.tensors(torch)
    for ones in (True, False):
        if (ones and demanded) or not (ones or demanded or any(1 in t.shape for t in tensors)):
            continue
        yield Freedom(ones)
        if shapes is None and any(t.dim() > 2 for t in tensors):
            yield Freedom(ones, features=False)


def export(torch: Any, module: Any, call: Call, shapes: Any, freedom: Freedom) -> Any:
    """The exported program of a module.

    shapes: dynamic_shapes of torch.export, in which strings name sizes; None where all may vary.
    """
    args, kwargs = call.args, call.kwargs
    if shapes is None:
        arguments = dict(bound_arguments(module, call).arguments)
        shapes = _all_dynamic(torch, arguments, freedom)
    free = torch.export.Dim.AUTO
    shapes = torch.utils._pytree.tree_map(lambda d: free if isinstance(d, str) else d, shapes)
    config = torch.fx.experimental._config.patch(backed_size_oblivious=freedom.ones)
    try:
        with keep_recurrent(), config, redirect_stderr(io.StringIO()):
            return torch.export.export(
                module, args, kwargs or None, dynamic_shapes=shapes, strict=False
            )
    except LightRNNError:
        raise
    except Exception as error:  # torch raises classes of many modules
        raise not_exported(error) from error


def _all_dynamic(torch: Any, arguments: Any, freedom: Freedom) -> Any:
    def sizes(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        is_free = freedom.features or leaf.dim() < 3
        return dict.fromkeys(range(leaf.dim() - (not is_free)), torch.export.Dim.AUTO)

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
        raise not_translated(torch, program, error) from error


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
