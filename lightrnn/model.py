"""Load a .lrnn file and run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from lightrnn.engine.executor import Executor, run_on_numpy
from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, Prepared, prepare
from lightrnn.engine.session import Session
from lightrnn.engine.team import default_threads
from lightrnn.errors import DeviceError, GraphError, InputError, NativeError, UnsupportedError
from lightrnn.format import ModelFile, contents, read
from lightrnn.graph import Array, Graph, Shape
from lightrnn.graph.check import check
from lightrnn.native import library
from lightrnn.ops import build
from lightrnn.record import Record, replace
from lightrnn.source import Source

if TYPE_CHECKING:
    from lightrnn.cuda.executor import CudaExecutor
    from lightrnn.cuda.interface import Device
    from lightrnn.cuda.interface import Stream as StreamOnGpu
    from lightrnn.cuda.session import CudaSession
    from lightrnn.streaming import Streamed

    AnyExecutor: TypeAlias = Executor | CudaExecutor


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

    source: a path, the file's bytes, or a binary file object. A path's file is mapped into memory:
    replace it by renaming another, never write into it.
    device: "cpu", "cuda" (the first GPU), "cuda:N", or "auto": a GPU where one is ready, else the
    CPU. threads: the most that one run uses on the CPU; by default LIGHTRNN_THREADS, else all cores
    allowed.

    Raises FormatError or GraphError for a bad file, OSError where it cannot be read, DeviceError
    where a GPU is asked for and cannot be used.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, expected a positive number")
    where = source if isinstance(source, str | os.PathLike) else contents(source)
    return Model(where, threads, device)


class Model:
    """A loaded model. Immutable; any number of threads may run it at once.

    It pickles as its file's bytes; from a path to more than `source.PICKLED_BYTES` of them, as that
    path and a hash. Pickling raises FormatError where the file has changed since it was loaded.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        gpu = _gpu(device)
        self._source = Source(source)
        self._threads, self._asked = threads, device
        self._device = "cpu" if gpu is None else "cuda" if device == "auto" else device
        file: ModelFile = read(source)
        for graph in file.graphs.values():
            check(graph, build)
        self._graphs = dict(file.graphs)
        self._store = PackedStore("cuda") if gpu else _cpu_store(threads)
        self.encodings: dict[str, str] = dict(file.encodings)
        self._prepared: dict[tuple[str, tuple[str, ...]], _Signature] = {}
        self._pieces: dict[str, _Pieces] = {}
        self.metadata: dict[str, str] = dict(file.metadata)
        self.text: dict[str, Any] | None = None if file.text is None else dict(file.text)
        self._executor = _cpu_executor(threads) if gpu is None else _gpu_executor(gpu)
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
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        graph: str | None = None,
        stream: Any = None,
    ) -> dict[str, Array]:
        """Compute outputs from inputs.

        inputs: every input by name, of exactly its dtype (lists and numbers are converted), any
        strides and alignment; large ones are read where they are, so they must not change before
        this returns. outputs: the names wanted, by default all. graph: by default the first. The
        arrays returned are the caller's own.

        On a GPU, an input may also be an array there that has DLPack or __cuda_array_interface__;
        the outputs are then `lightrnn.cuda.DeviceArray`. stream: the one to work on, as a handle or
        an object with __cuda_stream__: the run does not wait for results that stay on the GPU,
        unless a kernel checks values (indices, lengths).

        Raises InputError for inputs that do not fit, DataError for a value out of range,
        DeviceError where the GPU fails.
        """
        if graph is None and outputs is None:
            signature = self._main
        else:
            signature = self._signature(graph or self.graphs[0], outputs)
        return signature.run(inputs) if stream is None else signature.run_on(stream, inputs)

    def __call__(self, *inputs: Any, stream: Any = None) -> Array | tuple[Array, ...]:
        """Run the first graph on inputs in order; its outputs in order, a single one by itself."""
        signature = self._main
        if len(inputs) != len(signature.inputs):
            raise InputError(f"{len(inputs)} inputs, expected {len(signature.inputs)}")
        feeds = {spec.name: a for spec, a in zip(signature.inputs, inputs, strict=True)}
        made = signature.run(feeds) if stream is None else signature.run_on(stream, feeds)
        results = tuple(made.values())
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
        return _Pieces(made, _Signature(visible, first, self._executor), later)

    @property
    def device(self) -> str:
        """Where the model runs: "cpu", "cuda" or "cuda:N"."""
        return self._device

    @property
    def arena_bytes(self) -> int:
        """Memory kept for runs, weights apart; on a GPU, memory there."""
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
        return _unpickled, (*self._source.pickled(), self._threads, self._asked)

    def __repr__(self) -> str:
        return f"<lightrnn.Model {', '.join(self.graphs)}>"


def _unpickled(
    source: str | bytes, digest: str | None, threads: int | None, device: str = "cpu"
) -> Model:
    """A model from what `Source.pickled` gives. Raises FormatError for another file, OSError."""
    if digest is None:
        return Model(source, threads, device)
    file = Source(source)
    file.check(digest)
    model = Model(source, threads, device)
    file.check_unchanged()
    return model


def _gpu(device: str) -> Device | None:
    """The GPU that `device` names; None for the CPU. Raises DeviceError, UnsupportedError."""
    if device == "cpu":
        return None
    kind, _, number = device.partition(":")
    numbered = kind == "cuda" and number.isascii() and number.isdecimal()
    if device not in ("cuda", "auto") and not numbered:
        raise UnsupportedError(
            f"device {device!r} is not supported, expected 'cpu', 'cuda', 'cuda:N' or 'auto'"
        )
    from lightrnn.cuda.device import open_device

    try:
        return open_device(int(number or 0))
    except (DeviceError, NativeError):
        if kind == "auto":
            return None
        raise


def _gpu_executor(gpu: Device) -> CudaExecutor:
    from lightrnn.cuda.executor import CudaExecutor

    return CudaExecutor(gpu)


def _cpu_store(threads: int | None) -> PackedStore:
    kernels = library.load()
    level = "" if kernels is None else kernels.level
    return PackedStore(threads=threads or default_threads(), level=level)


def _cpu_executor(threads: int | None) -> Executor | None:
    """None where there is no kernel library for this machine."""
    kernels = library.load()
    if kernels is None:
        _warn_once()
        return None
    return Executor(kernels, threads or default_threads())


class _Signature:
    """Inputs and outputs of a prepared graph, and the check of what a caller passes."""

    def __init__(self, graph: Graph, prepared: Prepared, executor: AnyExecutor | None) -> None:
        self.prepared = prepared
        self._executor = executor
        self.inputs = _specs(graph.inputs)
        self.names = tuple(prepared.graph.outputs)
        self.outputs = _specs(prepared.graph.outputs)
        self.run: Callable[[Mapping[str, Any]], dict[str, Any]] = self._run
        if executor is not None:
            self.run = executor.dispatcher(prepared, [s.name for s in self.inputs], self._run)

    def _run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs for inputs that are checked first, whatever their types and shapes."""
        arrays = self.checked(feeds)
        results: Sequence[Any]
        if self._executor is None:
            results = run_on_numpy(self.prepared, arrays)
        else:
            plan = self.prepared.plan(tuple(a.shape for a in arrays))
            results = self._executor.run(plan, arrays)
        return dict(zip(self.names, results, strict=True))

    def run_on(self, stream: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As `run`, on a caller's stream of the GPU."""
        own = self.own_stream(stream)
        arrays = self.checked(feeds, own)
        plan = self.prepared.plan(tuple(a.shape for a in arrays))
        results = self._gpu_executor().run(plan, arrays, own)
        return dict(zip(self.names, results, strict=True))

    def own_stream(self, stream: Any) -> StreamOnGpu:
        """What the executor takes for a caller's stream."""
        return self._gpu_executor().borrow(stream)

    def _gpu_executor(self) -> CudaExecutor:
        if self._executor is None or isinstance(self._executor, Executor):
            raise InputError("a stream is for models on a GPU: load(..., device='cuda')")
        return self._executor

    def checked(self, feeds: Mapping[str, Any], stream: StreamOnGpu | None = None) -> list[Any]:
        """The inputs in order, each an array of its dtype and of sizes that fit.

        stream: where arrays on the GPU are to be ready.
        """
        names = [s.name for s in self.inputs]
        for name in names:
            if name not in feeds:
                raise InputError(f"input {name!r} is missing")
        for name in feeds:
            if name not in names:
                raise InputError(f"no input {name!r}, the graph has {', '.join(names) or 'none'}")
        arrays = [self._taken(spec, feeds[spec.name], stream) for spec in self.inputs]
        self._check_sizes([a.shape for a in arrays])
        return arrays

    def _taken(self, spec: TensorSpec, value: Any, stream: StreamOnGpu | None) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return _array(spec, value)
        if self._executor is None or isinstance(self._executor, Executor):
            return _array(spec, value)
        found = self._executor.adopt(spec.name, value, stream)
        if found is None:
            return _array(spec, value)
        if found.dtype != spec.dtype:
            raise InputError(f"input {spec.name!r} is {found.dtype}, expected {spec.dtype}")
        return found

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
    """What is no array becomes one of the input's type, but floats never integers."""
    array = value
    if not isinstance(value, np.ndarray | np.generic):
        try:
            array = np.asarray(value)
            if array.size == 0 or array.dtype.kind != "f" or spec.dtype.kind == "f":
                array = np.asarray(value, spec.dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"input {spec.name!r}: {error}") from None
    if array.dtype != spec.dtype:
        raise InputError(f"input {spec.name!r} is {array.dtype}, expected {spec.dtype}")
    return np.asarray(array)


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

    def __init__(self, executor: AnyExecutor | None, pieces: _Pieces) -> None:
        self._executor, self._pieces = executor, pieces
        streamed = pieces.streamed
        counts = len(streamed.inputs), len(streamed.outputs)
        make = Session.on_numpy if executor is None else executor.session
        self._session: Session | CudaSession = make(pieces.later, *counts)
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

    def step(self, inputs: Mapping[str, Any], stream: Any = None) -> dict[str, Array]:
        """The outputs, states apart, for the next piece, which may be of any number of steps.

        inputs: those of the model but for states. Inputs that are not along time are given with
        every piece; where an initial state depends on them, the first piece's count.
        stream: a stream of the GPU, as `Model.run` takes it.

        Raises InputError for inputs that do not fit, DataError for a value out of range; the
        stream is then where it was.
        """
        if stream is None:
            return self._step(inputs)
        return self._checked(inputs, (self._pieces.signature.own_stream(stream),))

    def _checked(
        self, inputs: Mapping[str, Any], on: tuple[StreamOnGpu, ...] = ()
    ) -> dict[str, Array]:
        """A step of checked inputs. on: the caller's stream of the GPU, if there is one."""
        arrays = self._pieces.signature.checked(inputs, *on)
        if self._began is None:
            return self._begin(arrays, on)
        self._pieces.streamed.check(self._began, [a.shape for a in arrays])
        try:
            return self._session.run(arrays, *on)
        except GraphError as error:
            raise InputError(
                f"{error}; where the piece does not fit the states, reset() begins another sequence"
            ) from None

    def _begin(self, arrays: list[Any], on: tuple[StreamOnGpu, ...]) -> dict[str, Array]:
        pieces, shapes = self._pieces, tuple(a.shape for a in arrays)
        given = [*arrays, *pieces.streamed.zeros(shapes)]
        prepared = pieces.signature.prepared
        results: Sequence[Any]
        if self._executor is None:
            results = run_on_numpy(prepared, given)
        else:
            plan = prepared.plan(tuple(a.shape for a in given))
            results = self._executor.run(plan, given, *on)
        made: dict[str, Any] = dict(zip(prepared.graph.outputs, results, strict=True))
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
