"""Compare models with what they were converted from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from lightrnn_converters.bisect import Bisection, Tensors
from lightrnn_converters.bisect import bisect as find_difference
from lightrnn_converters.bound import recorded
from lightrnn_converters.constants import tensor
from lightrnn_converters.feeds import LARGE_SIZES, SIZES, fill, shapes
from lightrnn_converters.optional import first_line, require
from lightrnn_converters.report import ATOL, RTOL, Report, compare
from lightrnn_converters.save import to_bytes
from lightrnn_converters.source import load

_log = logging.getLogger("lightrnn")

Feeds: TypeAlias = Mapping[str, Array]
Runner: TypeAlias = Callable[[Feeds], Mapping[str, Array]]
Trial: TypeAlias = tuple[Feeds, Mapping[str, Array]]
"""Inputs, and the results wanted of them."""


def verify(
    model: Model | str | os.PathLike[str] | bytes,
    reference: Any,
    feeds: Feeds | Sequence[Feeds] | None = None,
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
    graph: str | None = None,
    bisect: bool = False,
) -> Report:
    """Compare one graph of a .lrnn model with its source, output by output.

    Inputs that were bound when it was converted have the values then given.
    reference: an .onnx path, its bytes or a ModelProto, which onnxruntime runs; or a torch module
    or other callable of the graph's inputs in order.
    feeds: one or several sets of inputs; by default random ones at several sets of sizes.
    graph: by default the file's first. bisect: where the model differs from an ONNX reference, find
    the first node that does.

    Raises ConversionError where nothing could be compared, or the reference does not run on feeds.
    """
    model = model if isinstance(model, Model) else Model(model)
    name = graph or model.graphs[0]
    stored = model.graph(name)
    bound = recorded(model.metadata, name)
    run = reference_runner(reference, stored, bound)
    if feeds is None:
        trials = list(generated(stored, run))
    else:
        given = [feeds] if isinstance(feeds, Mapping) else feeds
        trials = [(f, _wanted(run, f)) for f in given]
    report = _report(model, name, trials, rtol, atol)
    if not bisect or report.passed:
        return report
    if callable(reference):
        raise ConversionError("only an ONNX reference has nodes to compare with: bisect=False")
    tensors = OnnxTensors(load(reference), bound)
    try:
        found = _bisection(model, name, trials, tensors, rtol, atol)
    except ReferenceFailedError as error:
        raise ConversionError(f"onnxruntime does not give all tensors: {error}") from None
    return replace(report, bisection=found)


def _wanted(run: Runner, feeds: Feeds) -> Mapping[str, Array]:
    try:
        return run(feeds)
    except ReferenceFailedError as error:
        raise ConversionError(f"the reference does not run on these inputs: {error}") from None


def verify_onnx(graph: Graph, proto: Any, bound: Mapping[str, Any], rtol: float = RTOL) -> None:
    """Compare a converted graph with onnxruntime, before it is written.

    bound: values of inputs that the graph no longer has. rtol: as in `verify`. Logs a note where
    onnxruntime is missing or does not run the model. Raises VerificationError.
    """
    try:
        run = OnnxRuntime(proto, bound)
        trials = list(generated(graph, run))
    except ConversionError as error:
        _log.warning("the conversion was not verified: %s", error)
        return
    require_agreement(graph, trials, "onnxruntime", lambda: OnnxTensors(proto, bound), rtol)


def require_agreement(
    graph: Graph,
    trials: Sequence[Trial],
    reference: str,
    tensors: Callable[[], Tensors] | None = None,
    rtol: float = RTOL,
) -> None:
    """Raise VerificationError unless a graph gives the results wanted of it.

    tensors: makes what knows the reference's tensors, so that the error names the first node.
    """
    model = Model(to_bytes(graph))
    try:
        report = _report(model, "main", trials, rtol, ATOL)
    except (GraphError, InputError, DataError) as error:
        raise VerificationError(
            f"{reference} runs the model, lightrnn does not: {error}"
        ) from error
    if not report.passed:
        lines = [str(o) for o in report.failures]
        if tensors is not None:
            lines += _first_difference(model, trials, tensors, rtol)
        listed = "\n  ".join(lines)
        raise VerificationError(
            f"the converted model differs from {reference}:\n  {listed}", report
        )


def runs(model: Model, feeds: Feeds) -> bool:
    """Whether a model takes these inputs."""
    try:
        model.run(feeds)
    except (GraphError, InputError, DataError):
        return False
    return True


def require_agreement_beyond(graph: Graph, guard: str, trial: Trial) -> None:
    """Raise VerificationError if a graph is silently wrong where a guard of its trace fails.

    guard: what sizes fulfil at which the module does what was converted. trial: of other sizes.
    """
    model = Model(to_bytes(graph))
    if not runs(model, trial[0]):
        return
    report = _report(model, "main", [trial], RTOL, ATOL)
    if not report.passed:
        listed = "\n  ".join(str(o) for o in report.failures)
        raise VerificationError(
            f"the module does something else where not {guard}, which a trace cannot follow: fix "
            f"that size, or use torch.where or a mask in place of the condition:\n  {listed}",
            report,
        )


def _first_difference(
    model: Model, trials: Sequence[Trial], tensors: Callable[[], Tensors], rtol: float
) -> list[str]:
    try:
        return str(_bisection(model, "main", trials, tensors(), rtol, ATOL)).splitlines()
    except (ConversionError, ReferenceFailedError) as error:
        return [f"the first node that differs is not known: {error}"]


def _bisection(
    model: Model, name: str, trials: Sequence[Trial], tensors: Tensors, rtol: float, atol: float
) -> Bisection:
    """Where a graph begins to differ, on the first inputs on which it does."""
    failing = next(t for t in trials if not _report(model, name, [t], rtol, atol).passed)
    return find_difference(model, name, failing[0], tensors, rtol, atol)


def generated(graph: Graph, run: Runner) -> Iterator[Trial]:
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


class ReferenceFailedError(ConversionError):
    """The reference does not run on these inputs."""


class OnnxRuntime:
    """An ONNX model run by onnxruntime. Raises ConversionError where it does not load."""

    def __init__(self, proto: Any, bound: Mapping[str, Any] | None = None) -> None:
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        # What ONNX says of DequantizeLinear, not a product of bytes in its place.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = runtime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes are not public
            raise ConversionError(
                f"onnxruntime does not load the model: {first_line(error)}"
            ) from None
        self._types = {i.name: i for i in self._session.get_inputs()}
        known = {n: v for n, v in (bound or {}).items() if n in self._types}
        self._bound = {name: self._fit(name, value) for name, value in known.items()}

    def _fit(self, name: str, value: Any) -> Array:
        given = self._types[name]
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
        array = np.asarray(value).astype(dtype)
        return array.reshape((1,) * len(given.shape)) if array.size == 1 else array

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        wanted = {n: v for n, v in {**feeds, **self._bound}.items() if n in self._types}
        if empty := [n for n, v in wanted.items() if not np.size(v)]:
            # its recurrent operators end the process
            raise ReferenceFailedError(f"onnxruntime is not run on the empty input {empty[0]!r}")
        names = [o.name for o in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, wanted), strict=True))
        except Exception as error:  # as above
            raise ReferenceFailedError(str(error)) from None


class OnnxTensors:
    """The tensors inside an ONNX model, as onnxruntime computes them."""

    def __init__(self, proto: Any, bound: Mapping[str, Any] | None = None) -> None:
        self._proto, self._bound = proto, bound
        self._made = {name for node in proto.graph.node for name in node.output}
        self._outputs = {output.name for output in proto.graph.output}

    def __call__(self, feeds: Feeds, names: Sequence[str]) -> dict[str, Array]:
        """Raises ConversionError or ReferenceFailedError where onnxruntime does not run."""
        wanted = [n for n in dict.fromkeys(names) if n in self._made]
        known = {i.name: i for i in self._proto.graph.initializer}
        values = {n: tensor(known[n]) for n in names if n in known}
        exposed = type(self._proto)()
        exposed.CopyFrom(self._proto)
        for name in wanted:
            if name not in self._outputs:
                exposed.graph.output.add().name = name
        found = OnnxRuntime(exposed, self._bound)(feeds) if wanted else {}
        return {**values, **{name: found[name] for name in wanted}}


def reference_runner(reference: Any, graph: Graph, bound: Mapping[str, Any]) -> Runner:
    """What runs a reference on feeds by name. bound: values of inputs that the graph lacks."""
    if callable(reference):
        return _callable_runner(reference, graph)
    return OnnxRuntime(load(reference), bound)


def _callable_runner(function: Callable[..., Any], graph: Graph) -> Runner:
    from lightrnn_converters.torch_reference import TorchReference

    return TorchReference(function, list(graph.inputs), list(graph.outputs))


def _report(
    model: Model,
    graph: str,
    trials: Iterable[Trial],
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
