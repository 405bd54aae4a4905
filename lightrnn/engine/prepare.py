"""Prepare a graph once: fold, drop what nobody reads, keep packed weights and plans."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from lightrnn.engine.bind import Binder
from lightrnn.engine.fuse import fuse_bias, fuse_transpose
from lightrnn.engine.interpret import evaluate_operator
from lightrnn.engine.memory import aligned_copy
from lightrnn.engine.plan import Plan
from lightrnn.graph import Array, Graph, Node, TensorType
from lightrnn.graph.check import infer
from lightrnn.ops import Operator, build
from lightrnn.record import replace

if TYPE_CHECKING:
    from lightrnn.engine.control import PreparedBody

FOLDED_BYTES = 2**28
"""What folding may add to a graph; four times the size of its constants where that is more."""

MAX_PLANS = 64
"""Plans kept for one graph; a plan holds no memory of its own but small constants."""


def fold(graph: Graph) -> Graph:
    """The graph with every node evaluated whose inputs are constants, memory permitting.

    Those that hold graphs are left: a file must not make loading take for ever.
    """
    constants = dict(graph.constants)
    left = max(FOLDED_BYTES, 4 * sum(a.nbytes for a in constants.values()))
    nodes = []
    for node in graph.nodes:
        if all(not name or name in constants for name in node.inputs):
            inputs = [constants[n] if n else None for n in node.inputs]
            operator = build(node)
            nbytes = _bytes_of(node, operator, inputs)
            if nbytes <= left and not operator.holds_graphs:
                left -= nbytes
                values = evaluate_operator(node, operator, inputs)
                constants.update((n, v) for n, v in zip(node.outputs, values, strict=False) if n)
                continue
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _bytes_of(node: Node, operator: Operator, inputs: Sequence[Array | None]) -> int:
    """Memory that the results of a node on constants take."""
    types = [None if a is None else TensorType.of(a) for a in inputs]
    return sum(
        prod(t.sizes, start=t.dtype.itemsize) for t in infer(node, operator, types) if t.is_concrete
    )


def prune(graph: Graph, outputs: Iterable[str]) -> Graph:
    """The graph with only what the named outputs need; inputs all stay."""
    wanted = {name: graph.outputs[name] for name in outputs}
    needed, nodes = set(wanted), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept = tuple(o if o in needed else "" for o in node.outputs)
            nodes.append(replace(node, outputs=kept))
            needed.update(node.inputs)
    constants = {n: v for n, v in graph.constants.items() if n in needed}
    return replace(graph, outputs=wanted, nodes=tuple(nodes[::-1]), constants=constants)


class PackedStore:
    """Packed constants of one model, by source arrays and layout, shared by all its plans.

    target: what plans are made for, "cpu" or "cuda". threads: the most of a run on a CPU.
    level: of the kernels there (abi.LEVELS); what only some have is not used without.
    lock: held while a plan is made.
    """

    def __init__(self, target: str = "cpu", threads: int = 1, level: str = "") -> None:
        self.target, self.threads, self.level = target, threads, level
        self._arrays: dict[Hashable, tuple[tuple[Array, ...], Array]] = {}
        self.lock = threading.RLock()
        _STORES.add(self)

    def get(
        self, sources: tuple[Array, ...], layout: Hashable, pack: Callable[..., Array]
    ) -> Array:
        """`pack(*sources)`, made on first use. The sources are kept, so ids stay theirs."""
        key = (tuple(map(id, sources)), layout)
        with self.lock:
            found = self._arrays.get(key)
            if found is None:
                found = self._arrays[key] = sources, aligned_copy(pack(*sources))
            return found[1]


_STORES: weakref.WeakSet[PackedStore] = weakref.WeakSet()


def _unlock_stores() -> None:
    """In a forked child: the thread that held a lock is not there to release it."""
    for store in _STORES:
        store.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_stores)


class Prepared:
    """A graph ready to be bound, with its plans by input shapes."""

    def __init__(
        self,
        graph: Graph,
        store: PackedStore,
        lasting: Collection[str] | None = None,
        encodings: Mapping[str, str] | None = None,
        carried: Mapping[str, str] | None = None,
    ) -> None:
        """lasting: the constants that are the model's own, not one plan's; by default all.

        encodings: how constants are stored that are not stored as they are.
        carried: inputs that hold states and the outputs that hold them afterwards.
        """
        self.encodings = encodings or {}
        self.graph = _with_plain_constants(graph)
        self.lasting: Collection[str] = graph.constants.keys() if lasting is None else lasting
        self._store = store
        steps = [(node, self._operator(node)) for node in self.graph.nodes]
        if any(node.op == "Softmax" for node in self.graph.nodes):
            from lightrnn.engine.fuse_attention import fuse_attention

            steps = fuse_attention(steps, self.graph)
        if any(node.op == "Gather" for node in self.graph.nodes):
            from lightrnn.engine.fuse_embedding import fuse_embedding

            steps, added = fuse_embedding(steps, self.graph)
            self._add_constants(added)
        steps = fuse_bias(steps, self.graph)
        if any(node.op == "Transpose" for node in self.graph.nodes):
            steps = fuse_transpose(steps, self.graph)
        if any(node.op == "Concat" for node in self.graph.nodes):
            from lightrnn.engine.split_concat import split_concat

            split = split_concat(steps, self.graph, self.encodings)
            steps = split.steps
            self._add_constants(split.constants)
            self.encodings = {**self.encodings, **split.encodings}
        if {"Tanh", "Add"} <= {op.name for _, op in steps}:
            from lightrnn.engine.fuse_additive import fuse_additive

            steps = fuse_additive(steps, self.graph)
        if {"Mul", "ReduceSum"} <= {op.name for _, op in steps}:
            from lightrnn.engine.fuse_sums import fuse_sums

            steps = fuse_sums(steps, self.graph)
        self.nodes: list[tuple[Node, Operator]] = steps
        self.plans: dict[tuple[tuple[int, ...], ...], Plan] = {}
        self._decided: dict[tuple[bool, ...], Prepared] = {}
        self.carried = dict(carried or {})

    def _add_constants(self, added: Mapping[str, Array]) -> None:
        """Constants that fused operators read, as lasting as the model's own."""
        self.lasting = {*self.lasting, *added}
        self.graph = replace(self.graph, constants={**self.graph.constants, **added})

    def _operator(self, node: Node) -> Operator:
        operator = build(node)
        if not operator.holds_graphs:
            return operator
        from lightrnn.engine.control import PreparedControl
        from lightrnn.ops.control import Control

        assert isinstance(operator, Control)
        count = operator.captured(len(node.inputs))
        return PreparedControl(operator, [self._body(g, node, count) for g in operator.graphs])

    def _body(self, graph: Graph, node: Node, count: int) -> PreparedBody:
        """A graph that `node` holds, `count` of whose inputs are captured."""
        encodings = {n: e for n, e in self.encodings.items() if n in graph.constants}
        from lightrnn.engine.control import PreparedBody, specialized

        inside, kept = specialized(graph, node, count, self.graph.constants)
        return PreparedBody(prepare(inside, tuple(inside.outputs), self._store, encodings), kept)

    def plan(self, shapes: tuple[tuple[int, ...], ...]) -> Plan:
        """The plan for inputs of these shapes, made on first use."""
        found = self.plans.get(shapes)
        if found is not None:
            return found
        with self._store.lock:
            found = self.plans.get(shapes)
            if found is None:
                found = self._bound(shapes)
                while len(self.plans) >= MAX_PLANS:
                    del self.plans[next(iter(self.plans))]
                self.plans[shapes] = found
            return found

    def _bound(self, shapes: tuple[tuple[int, ...], ...]) -> Plan:
        """A plan of the graph, or of the graph with the branches that these shapes decide."""
        if not any(node.op == "If" for node in self.graph.nodes):
            return Binder(self).bind(shapes)
        from lightrnn.engine.branches import Decisions

        made = Decisions.of(self.graph, shapes)
        taken = tuple(made.taken)
        if taken not in self._decided:
            while len(self._decided) >= MAX_PLANS:
                del self._decided[next(iter(self._decided))]
            outputs = tuple(self.graph.outputs)
            graph = prune(fold(prune(made.graph, outputs)), outputs)
            lasting = {*self.lasting, *made.own}
            self._decided[taken] = Prepared(
                graph, self._store, lasting, self.encodings, self.carried
            )
        return Binder(self._decided[taken]).bind(shapes)

    @property
    def target(self) -> str:
        """What plans are made for: "cpu" or "cuda"."""
        return self._store.target

    @property
    def level(self) -> str:
        """The level of the kernels on a CPU, one of abi.LEVELS, or nothing."""
        return self._store.level

    @property
    def threads(self) -> int:
        """The most threads of a run on a CPU."""
        return self._store.threads

    def packed(
        self, sources: tuple[Array, ...], layout: Hashable, pack: Callable[..., Array]
    ) -> Array:
        """A packed form of lasting constants, made on first use."""
        return self._store.get(sources, layout, pack)

    def live_after(self, split: int) -> list[str]:
        """Tensors made before node `split` that nodes after it, or the caller, still need.

        What follows is prepared anew from the graph, so those are needed that its nodes read.
        """
        made = set(self.graph.inputs)
        for node, _ in self.nodes[:split]:
            made.update(o for o in node.outputs if o)
        after = {*made, *self.nodes[split][0].outputs} - {""}
        needed = [
            i for node in self.graph.nodes if after.isdisjoint(node.outputs) for i in node.inputs
        ]
        return [n for n in dict.fromkeys([*needed, *self.graph.outputs]) if n in made]

    def rest(
        self, split: int, inputs: Mapping[str, TensorType], known: Mapping[str, Array]
    ) -> Prepared:
        """What follows node `split`. inputs: its outputs, and the live tensors not `known`."""
        made = {o for node, _ in self.nodes[: split + 1] for o in node.outputs if o}
        after = tuple(n for n in self.graph.nodes if made.isdisjoint(n.outputs))
        constants = {**self.graph.constants, **known}
        graph = Graph(inputs, self.graph.outputs, after, constants)
        # What was fused into a node before the split is not made, and nobody needs it.
        left = prune(fold(graph), graph.outputs)
        return Prepared(left, self._store, self.lasting, self.encodings)


def prepare(
    graph: Graph,
    outputs: Sequence[str],
    store: PackedStore,
    encodings: Mapping[str, str] | None = None,
    carried: Mapping[str, str] | None = None,
) -> Prepared:
    """Prepare a checked graph for some of its outputs; encodings as `Prepared` takes them.

    carried: inputs that hold states and the outputs that hold them afterwards, where a session is
    to keep them in its memory.
    """
    pruned = prune(fold(prune(graph, outputs)), outputs)
    return Prepared(pruned, store, None, encodings, carried)


def _with_plain_constants(graph: Graph) -> Graph:
    """Constants as kernels read them: contiguous, aligned to their elements, not byte-swapped."""
    plain = {}
    for name, array in graph.constants.items():
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        fits = native.flags.c_contiguous and native.flags.aligned
        plain[name] = native if fits else np.array(native, order="C")
    return replace(graph, constants=plain)
