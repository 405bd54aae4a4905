"""Compare models with what they were converted from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from lightrnn.errors import (
    ConversionError,
    DataError,
    GraphError,
    InputError,
    LightRNNError,
    VerificationError,
)
from lightrnn.graph import Array, Graph
from lightrnn.model import Model
from lightrnn_converters.feeds import LARGE_SIZES, SIZES, fill, shapes
from lightrnn_converters.optional import first_line, require
from lightrnn_converters.report import ATOL, RTOL, Report, compare
from lightrnn_converters.save import to_bytes
from lightrnn_converters.source import load

_log = logging.getLogger("lightrnn")

Feeds: TypeAlias = Mapping[str, Array]
Runner: TypeAlias = Callable[[Feeds], Mapping[str, Array]]


def verify(
    model: Model | str | os.PathLike[str] | bytes,
    reference: Any,
    feeds: Feeds | Sequence[Feeds] | None = None,
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
    graph: str | None = None,
) -> Report:
    """Compare one graph of a .lrnn model with its source, output by output.

    reference: an .onnx path, its bytes or a ModelProto, which onnxruntime runs; or a torch module
    or other callable of the graph's inputs in order.
    feeds: one or several sets of inputs; by default random ones at several sets of sizes.
    graph: by default the file's first.

    Raises ConversionError where nothing could be compared.
    """
    model = model if isinstance(model, Model) else Model(model)
    name = graph or model.graphs[0]
    stored = model.graph(name)
    run = reference_runner(reference, stored)
    if feeds is not None:
        trials: Iterable[Feeds] = [feeds] if isinstance(feeds, Mapping) else feeds
        return _report(model, name, ((f, run(f)) for f in trials), rtol, atol)
    return _report(model, name, generated(stored, run), rtol, atol)


def verify_onnx(graph: Graph, proto: Any, bound: Mapping[str, Any]) -> None:
    """Compare a converted graph with onnxruntime, before it is written.

    bound: values of inputs that the graph no longer has. Logs a note where onnxruntime is missing
    or does not run the model. Raises VerificationError.
    """
    try:
        run = OnnxRuntime(proto, bound)
        trials = list(generated(graph, run))
    except ConversionError as error:
        _log.warning("the conversion was not verified: %s", error)
        return
    require_agreement(graph, trials, "onnxruntime")


def require_agreement(
    graph: Graph, trials: Iterable[tuple[Feeds, Mapping[str, Array]]], reference: str
) -> None:
    """Raise VerificationError unless a graph gives the results wanted of it."""
    model = Model(to_bytes(graph))
    try:
        report = _report(model, "main", trials, RTOL, ATOL)
    except (GraphError, InputError, DataError) as error:
        raise VerificationError(
            f"{reference} runs the model, lightrnn does not: {error}"
        ) from error
    if not report.passed:
        lines = "\n  ".join(str(o) for o in report.failures)
        raise VerificationError(f"the converted model differs from {reference}:\n  {lines}", report)


def generated(graph: Graph, run: Runner) -> Iterator[tuple[Feeds, Mapping[str, Array]]]:
    """Random inputs at `SIZES` with the results wanted.

    Sizes that the reference refuses are passed over. Raises ConversionError if it refuses all.
    """
    rng = np.random.default_rng(0)
    done, reason = 0, ""
    fixed = all(isinstance(d, int) for t in graph.inputs.values() for d in t.shape or (None,))
    for first, step in (*SIZES, *LARGE_SIZES):
        if done and (fixed or (first, step) in LARGE_SIZES):
            return
        try:
            feeds = fill(graph, shapes(graph, first, step), rng)
            wanted = run(feeds)
        except (LightRNNError, ReferenceFailedError) as error:
            reason = reason or first_line(error)
            continue
        yield feeds, wanted
        done += 1
    if not done:
        raise ConversionError(f"the reference refuses all inputs that were tried: {reason}")


class ReferenceFailedError(Exception):
    """The reference does not run on these inputs."""


class OnnxRuntime:
    """An ONNX model run by onnxruntime. Raises ConversionError where it does not load."""

    def __init__(self, proto: Any, bound: Mapping[str, Any] | None = None) -> None:
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes are not public
            raise ConversionError(
                f"onnxruntime does not load the model: {first_line(error)}"
            ) from None
        self._types = {i.name: i for i in self._session.get_inputs()}
        self._bound = {name: self._fit(name, value) for name, value in (bound or {}).items()}

    def _fit(self, name: str, value: Any) -> Array:
        given = self._types[name]
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
        array = np.asarray(value).astype(dtype)
        return array.reshape((1,) * len(given.shape)) if array.size == 1 else array

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        wanted = {n: v for n, v in {**feeds, **self._bound}.items() if n in self._types}
        names = [o.name for o in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, wanted), strict=True))
        except Exception as error:  # as above
            raise ReferenceFailedError(str(error)) from None


def reference_runner(reference: Any, graph: Graph) -> Runner:
    """What runs a reference on feeds by name."""
    if callable(reference):
        return _callable_runner(reference, graph)
    return OnnxRuntime(load(reference))


def _callable_runner(function: Callable[..., Any], graph: Graph) -> Runner:
    from lightrnn_converters.torch_reference import TorchReference

    return TorchReference(function, list(graph.inputs), list(graph.outputs))


def _report(
    model: Model,
    graph: str,
    trials: Iterable[tuple[Feeds, Mapping[str, Array]]],
    rtol: float,
    atol: float,
) -> Report:
    outputs = []
    for feeds, wanted in trials:
        stored = model.graph(graph)
        known = {n: v for n, v in feeds.items() if n in stored.inputs}
        found = model.run(known, graph=graph)
        missing = [n for n in found if n not in wanted]
        if missing:
            raise ConversionError(f"the reference has no output {missing[0]!r}")
        outputs += list(compare(found, {n: wanted[n] for n in found}, rtol, atol))
    return Report(tuple(outputs))
