"""Load a .lrnn file and run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lightrnn.engine.executor import Executor, run_on_numpy
from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, Prepared, prepare
from lightrnn.engine.session import Session
from lightrnn.engine.team import default_threads
from lightrnn.errors import GraphError, InputError, UnsupportedError
from lightrnn.format import ModelFile, contents, read
from lightrnn.graph import Array, Graph, Shape
from lightrnn.graph.check import check
from lightrnn.native import library
from lightrnn.ops import build
from lightrnn.record import Record, replace
from lightrnn.source import Source

if TYPE_CHECKING:
    from lightrnn.streaming import Streamed


class TensorSpec(Record):
    """An input or output: its name, dtype and shape, where a name or None is any size."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape | None


def load(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    device: str = "cpu",
    threads: int | None = None,
) -> Model:
    """Load a model from a .lrnn file.

    source: a path (mapped into memory), the file's bytes, or a binary file object.
    device: "cpu".
    threads: the most that one run uses; by default LIGHTRNN_THREADS, else all cores allowed.

    Raises FormatError or GraphError for a bad file, OSError where it cannot be read.
    """
    if device != "cpu":
        raise UnsupportedError(f"device {device!r} is not supported, expected 'cpu'")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, expected a positive number")
    return Model(source if isinstance(source, str | os.PathLike) else contents(source), threads)


class Model:
    """A loaded model. Immutable; any number of threads may run it at once.

    It pickles as its file's bytes; from a path to more than `source.PICKLED_BYTES` of them, as that
    path and a hash. Pickling raises FormatError where the file has changed since it was loaded.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, threads: int | None = None) -> None:
        self._source = Source(source)
        self._threads = threads
        file: ModelFile = read(source)
        for graph in file.graphs.values():
            check(graph, build)
        self._graphs = dict(file.graphs)
        self._store = PackedStore()
        self.encodings: dict[str, str] = dict(file.encodings)
        self._prepared: dict[tuple[str, tuple[str, ...]], _Signature] = {}
        self._pieces: dict[str, _Pieces] = {}
        self.metadata: dict[str, str] = dict(file.metadata)
        self.text: dict[str, Any] | None = None if file.text is None else dict(file.text)
        kernels = library.load()
        if kernels is None:
            _warn_once()
        count = threads or default_threads()
        self._executor = None if kernels is None else Executor(kernels, count)
        self._main = self._signature(next(iter(self._graphs)), None)

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the file's graphs; the first is what `run` runs."""
        return tuple(self._graphs)

    def graph(self, name: str) -> Graph:
        """One of the file's graphs, as it is stored."""
        if name not in self._graphs:
            raise InputError(f"no graph {name!r}, the file has {', '.join(self._graphs)}")
        return self._graphs[name]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs of the first graph."""
        return self._main.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs of the first graph."""
        return self._main.outputs

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        graph: str | None = None,
    ) -> dict[str, Array]:
        """Compute outputs from inputs.

        inputs: every input by name, of exactly its dtype (lists and numbers are converted), any
        strides and alignment. outputs: the names wanted, by default all. graph: by default the
        first. The arrays returned are the caller's own.

        Raises InputError for inputs that do not fit, DataError for a value out of range.
        """
        if graph is None and outputs is None:
            signature = self._main
        else:
            signature = self._signature(graph or self.graphs[0], outputs)
        return signature.run(inputs)

    def __call__(self, *inputs: Array) -> Array | tuple[Array, ...]:
        """Run the first graph on inputs in order; its outputs in order, a single one by itself."""
        signature = self._main
        if len(inputs) != len(signature.inputs):
            raise InputError(f"{len(inputs)} inputs, expected {len(signature.inputs)}")
        feeds = {spec.name: a for spec, a in zip(signature.inputs, inputs, strict=True)}
        results = tuple(signature.run(feeds).values())
        return results[0] if len(results) == 1 else results

    def plan(self, shapes: Mapping[str, Sequence[int]], graph: str | None = None) -> Plan:
        """What would run for inputs of these shapes. Needs the kernel library."""
        signature = self._signature(graph or self.graphs[0], None)
        return signature.prepared.plan(signature.shapes(shapes))

    def warm_up(
        self, shapes: Iterable[Mapping[str, Sequence[int]]], graph: str | None = None
    ) -> None:
        """Bind plans for these input shapes, so that their first run is as quick as others."""
        for one in shapes:
            self.plan(one, graph)

    def stream(self, graph: str | None = None) -> Stream:
        """Run piece after piece of a sequence of any length, states carried along.

        Raises UnsupportedError, naming each node at fault, where the results would not be those of
        the whole sequence.
        """
        name = graph or self.graphs[0]
        found = self._pieces.get(name)
        if found is None:
            found = self._pieces[name] = self._in_pieces(name)
        return Stream(self._executor, found)

    def _in_pieces(self, name: str) -> _Pieces:
        from lightrnn.streaming import streamed

        made = streamed(self.graph(name), name)
        kept = self._store, self.encodings
        first = prepare(made.first, tuple(made.first.outputs), *kept)
        visible = replace(made.first, inputs={n: made.first.inputs[n] for n in made.inputs})
        later = prepare(made.later, tuple(made.later.outputs), *kept, made.later.states)
        return _Pieces(made, _Signature(visible, first, None), later)

    @property
    def arena_bytes(self) -> int:
        """Memory kept for runs, weights apart."""
        return 0 if self._executor is None else self._executor.arena_bytes

    def _signature(self, graph: str, outputs: Sequence[str] | None) -> _Signature:
        stored = self.graph(graph)
        names = tuple(stored.outputs if outputs is None else outputs)
        found = self._prepared.get((graph, names))
        if found is None:
            unknown = [n for n in names if n not in stored.outputs]
            if unknown or not names:
                raise InputError(
                    f"no output {', '.join(unknown) or 'asked for'}, "
                    f"the graph has {', '.join(stored.outputs)}"
                )
            found = _Signature(
                stored, prepare(stored, names, self._store, self.encodings), self._executor
            )
            self._prepared[graph, names] = found
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (*self._source.pickled(), self._threads)

    def __repr__(self) -> str:
        return f"<lightrnn.Model {', '.join(self.graphs)}>"


def _unpickled(source: str | bytes, digest: str | None, threads: int | None) -> Model:
    """A model from what `Source.pickled` gives. Raises FormatError for another file, OSError."""
    if digest is None:
        return Model(source, threads)
    file = Source(source)
    file.check(digest)
    model = Model(source, threads)
    file.check_unchanged()
    return model


class _Signature:
    """Inputs and outputs of a prepared graph, and the check of what a caller passes."""

    def __init__(self, graph: Graph, prepared: Prepared, executor: Executor | None) -> None:
        self.prepared = prepared
        self._executor = executor
        self.inputs = _specs(graph.inputs)
        self.names = tuple(prepared.graph.outputs)
        self.outputs = _specs(prepared.graph.outputs)
        self.run: Callable[[Mapping[str, Any]], dict[str, Array]] = self._run
        if executor is not None:
            self.run = executor.dispatcher(prepared, [s.name for s in self.inputs], self._run)

    def _run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Outputs for inputs that are checked first, whatever their types and shapes."""
        arrays = self.checked(feeds)
        if self._executor is None:
            results = run_on_numpy(self.prepared, arrays)
        else:
            plan = self.prepared.plan(tuple(a.shape for a in arrays))
            results = self._executor.run(plan, arrays)
        return dict(zip(self.names, results, strict=True))

    def checked(self, feeds: Mapping[str, Any]) -> list[Array]:
        """The inputs in order, each an array of its dtype and of sizes that fit."""
        names = [s.name for s in self.inputs]
        for name in names:
            if name not in feeds:
                raise InputError(f"input {name!r} is missing")
        for name in feeds:
            if name not in names:
                raise InputError(f"no input {name!r}, the graph has {', '.join(names) or 'none'}")
        arrays = [_array(spec, feeds[spec.name]) for spec in self.inputs]
        self._check_sizes([a.shape for a in arrays])
        return arrays

    def shapes(self, given: Mapping[str, Sequence[int]]) -> tuple[tuple[int, ...], ...]:
        """Checked shapes of all inputs, in order."""
        for spec in self.inputs:
            if spec.name not in given:
                raise InputError(f"no shape for input {spec.name!r}")
        shapes = tuple(tuple(int(d) for d in given[s.name]) for s in self.inputs)
        self._check_sizes(shapes)
        return shapes

    def _check_sizes(self, shapes: Sequence[tuple[int, ...]]) -> None:
        known: dict[str, tuple[int, str]] = {}
        for spec, shape in zip(self.inputs, shapes, strict=True):
            if spec.shape is None:
                continue
            if len(shape) != len(spec.shape):
                raise InputError(
                    f"input {spec.name!r} has shape {shape}, expected rank {len(spec.shape)}"
                )
            for size, dim in zip(shape, spec.shape, strict=True):
                if isinstance(dim, int) and size != dim:
                    raise InputError(
                        f"input {spec.name!r} has shape {shape}, expected {spec.shape}"
                    )
                if isinstance(dim, str) and known.setdefault(dim, (size, spec.name))[0] != size:
                    raise InputError(
                        f"inputs {known[dim][1]!r} and {spec.name!r} have different sizes "
                        f"for {dim!r}: {known[dim][0]} and {size}"
                    )


def _array(spec: TensorSpec, value: Any) -> Array:
    if not isinstance(value, np.ndarray | np.generic):
        try:
            return np.asarray(value, spec.dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"input {spec.name!r}: {error}") from None
    if value.dtype != spec.dtype:
        raise InputError(f"input {spec.name!r} is {value.dtype}, expected {spec.dtype}")
    return np.asarray(value)


def _specs(types: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, t.dtype, t.shape) for name, t in types.items())


class _Pieces(Record):
    """A graph prepared to run piece by piece: what all its streams share."""

    streamed: Streamed
    signature: _Signature
    later: Prepared


class Stream:
    """A model run on one piece of its input after the other; not to be shared by threads.

    The results are those of all pieces at once. States start as the model starts them: as zeros
    where they are inputs that the file pairs with outputs.
    """

    def __init__(self, executor: Executor | None, pieces: _Pieces) -> None:
        self._executor, self._pieces = executor, pieces
        streamed = pieces.streamed
        counts = len(streamed.inputs), len(streamed.outputs)
        self._session = Session(executor, pieces.later, *counts)
        self._step = self._session.dispatcher(self._checked)
        self._began: tuple[tuple[int, ...], ...] | None = None

    def reset(self) -> None:
        """Begin another sequence."""
        self._session.begin([])
        self._began = None

    def copy(self) -> Stream:
        """A stream that goes on by itself from where this one is."""
        other = Stream(self._executor, self._pieces)
        other._session.begin(self._session.states())
        other._began = self._began
        return other

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs, states apart, for the next piece, which may be of any number of steps.

        inputs: those of the model but for states. Inputs that are not along time are given with
        every piece; where an initial state depends on them, the first piece's count.

        Raises InputError for inputs that do not fit, DataError for a value out of range; the
        stream is then where it was.
        """
        return self._step(inputs)

    def _checked(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = self._pieces.signature.checked(inputs)
        if self._began is None:
            return self._begin(arrays)
        self._pieces.streamed.check(self._began, [a.shape for a in arrays])
        try:
            return self._session.run(arrays)
        except GraphError as error:
            raise InputError(
                f"{error}; where the piece does not fit the states, reset() begins another sequence"
            ) from None

    def _begin(self, arrays: list[Array]) -> dict[str, Array]:
        pieces, shapes = self._pieces, tuple(a.shape for a in arrays)
        given = [*arrays, *pieces.streamed.zeros(shapes)]
        prepared = pieces.signature.prepared
        if self._executor is None:
            results = run_on_numpy(prepared, given)
        else:
            plan = prepared.plan(tuple(a.shape for a in given))
            results = self._executor.run(plan, given)
        made = dict(zip(prepared.graph.outputs, results, strict=True))
        self._session.begin([made[output] for output in pieces.later.carried.values()])
        self._began = shapes
        return {name: made[name] for name in pieces.streamed.outputs}


_warned = False


def _warn_once() -> None:
    global _warned  # noqa: PLW0603
    if not _warned:
        _warned = True
        import logging  # a part of each start that only this needs

        log = logging.getLogger("lightrnn")
        log.warning("no kernel library for this machine: running on NumPy, which is slow; "
                     "`lightrnn doctor` says why, `lightrnn build-kernels` builds one")  # fmt: skip
