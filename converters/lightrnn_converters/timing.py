"""What `lightrnn bench` asks of others: inputs to run on, and onnxruntime to run beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from lightrnn.errors import ConversionError, InputError
from lightrnn.graph import Array, Graph
from lightrnn_converters.feeds import fill
from lightrnn_converters.optional import require
from lightrnn_converters.source import Source, load

SIZE = 16
"""The size of a dimension that nothing else decides."""


def random_inputs(graph: Graph, given: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Random inputs of a graph, integers within range.

    given: shapes of some inputs; others take sizes of the same names from them, else `SIZE`.

    Raises InputError for a shape of another rank than the input's.
    """
    sizes = {
        dim: size
        for name, shape in given.items()
        for dim, size in zip(graph.inputs[name].shape or (), shape, strict=False)
        if isinstance(dim, str)
    }
    shapes = {}
    for name, kind in graph.inputs.items():
        if kind.shape is None and name not in given:
            raise InputError(f"the rank of input {name!r} is not known: give its shape")
        dims = kind.shape or ()
        usual = tuple(d if isinstance(d, int) else sizes.get(d or "", SIZE) for d in dims)
        shapes[name] = given.get(name, usual)
        if kind.shape is not None and len(shapes[name]) != len(usual):
            raise InputError(f"input {name!r} of shape {shapes[name]}, expected rank {len(usual)}")
    return fill(graph, shapes, np.random.default_rng(0))


def onnx_call(
    source: Source, feeds: Mapping[str, Array], threads: int
) -> Callable[[], list[Array]]:
    """A call that runs an ONNX model in onnxruntime, and does nothing else.

    feeds: inputs by name, those that the model lacks left out. threads: within an operator.

    Raises ConversionError where onnxruntime is not installed or does not run the model.
    """
    runtime = require("onnxruntime")
    proto = load(source)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [given.name for given in session.get_inputs()]
        call = partial(session.run, None, {n: feeds[n] for n in names if n in feeds})
        call()
    except Exception as error:  # onnxruntime's classes are not public
        first = str(error).strip().splitlines()[0]
        raise ConversionError(f"onnxruntime does not run the model: {first}") from None
    return call
