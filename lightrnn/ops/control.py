"""If, Loop and Scan: operators that hold graphs.

A graph inside a node reads nothing but its inputs and constants. What the source model's graph
captured from around it are the last inputs of the node, passed on as they are to the last inputs
of its graphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from lightrnn.errors import DataError, GraphError, UnsupportedError
from lightrnn.graph import BOOL, INT64, Array, Dim, Graph, Shape, TensorType
from lightrnn.graph.check import check
from lightrnn.ops.arguments import arrays_types, axis_of, given, merged, scalar
from lightrnn.ops.interpret import Interpreted
from lightrnn.ops.registry import Case, Operator, Types, build, operator

Body: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]
"""A graph ready to run: its outputs, in order, for its inputs in order."""


def infer_graph(graph: Graph, inputs: Types) -> list[TensorType]:
    """Types of a graph's outputs for inputs of these types. Raises GraphError."""
    if len(inputs) != len(graph.inputs):
        raise GraphError(f"a graph takes {len(graph.inputs)} inputs, the node has {len(inputs)}")
    known = {}
    for (name, declared), kind in zip(graph.inputs.items(), inputs, strict=True):
        if kind is None:
            raise GraphError(f"the graph's input {name!r} is left out")
        if kind.dtype != declared.dtype:
            raise GraphError(f"the graph's input {name!r} is {kind}, declared as {declared}")
        known[name] = kind
    types = check(Graph(known, graph.outputs, graph.nodes, graph.constants), build)
    return [types[name] for name in graph.outputs]


def joined(a: TensorType, b: TensorType, what: str) -> TensorType:
    """What is known of a tensor that is one of two. Raises GraphError if element types differ."""
    if a.dtype != b.dtype:
        raise GraphError(f"{what} is {a.dtype.name} or {b.dtype.name}, expected one type")
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return TensorType(a.dtype, None)
    sizes = (x if x == y else None for x, y in zip(a.shape, b.shape, strict=True))
    return TensorType(a.dtype, tuple(sizes))


class Control(Operator):
    """The base of operators that hold graphs."""

    holds_graphs = True

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs, in the order in which `run` takes them."""
        raise NotImplementedError

    def captured(self, inputs: int) -> int:
        """How many of a node's `inputs` are captured."""
        raise NotImplementedError

    def run(self, bodies: Sequence[Body], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """All outputs. bodies: the graphs, ready to run."""
        raise NotImplementedError

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return self.run([Interpreted(graph) for graph in self.graphs], inputs)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        """None: an ONNX node of this kind is more than one node."""
        return iter(())


@operator("If", inputs="cond captured*", outputs="outputs*")
class If(Control):
    """One of two graphs without inputs of their own (ONNX If 25)."""

    then_branch: Graph
    else_branch: Graph

    kinds = "b"

    def __post_init__(self) -> None:
        counts = [len(graph.outputs) for graph in self.graphs]
        if counts[0] != counts[1]:
            raise GraphError(f"the branches have {counts[0]} and {counts[1]} outputs")

    @property
    def graphs(self) -> tuple[Graph, ...]:
        return self.then_branch, self.else_branch

    def captured(self, inputs: int) -> int:
        return inputs - 1

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        condition = scalar(given(inputs), "cond")
        if condition is not None:
            taken = self.then_branch if condition else self.else_branch
            return tuple(infer_graph(taken, inputs[1:]))
        first, second = self._branches(inputs[1:])
        pairs = zip(first, second, strict=True)
        return tuple(joined(a, b, f"output {k}") for k, (a, b) in enumerate(pairs))

    def _branches(self, captured: Types) -> list[list[TensorType]]:
        """Types of both branches' outputs; a branch that these sizes do not fit is never taken."""
        found: list[list[TensorType]] = []
        misfit: GraphError | None = None
        for graph in self.graphs:
            try:
                found.append(infer_graph(graph, captured))
            except UnsupportedError:
                raise
            except GraphError as error:
                misfit = error
        if misfit is not None and not (found and all(t and t.is_concrete for t in captured)):
            raise misfit
        return found * (3 - len(found))

    def run(self, bodies: Sequence[Body], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        taken = bodies[0] if given(inputs).reshape(()) else bodies[1]
        return tuple(taken([given(inputs, k) for k in range(1, len(inputs))]))


PATIENCE = 2
"""Iterations of inference after which shapes that still change are forgotten."""


def settled(
    infer: Callable[[list[TensorType]], list[TensorType]], initial: Sequence[TensorType]
) -> tuple[list[TensorType], list[TensorType]]:
    """Types of carried tensors that hold at every iteration, and what `infer` makes of them.

    infer: types of carried tensors before an iteration to all types after it, the carried first.
    """
    states = [TensorType(t.dtype, t.shape) for t in initial]
    for turn in itertools.count():
        results = infer(states)
        pairs = zip(states, results, strict=False)
        after = [joined(a, b, f"carried tensor {k}") for k, (a, b) in enumerate(pairs)]
        if after == states:
            break
        states = after if turn < PATIENCE else [TensorType(t.dtype, None) for t in after]
    return states, results


@operator("Loop", inputs="M? cond? v_initial*", outputs="v_final_and_scan_outputs*")
class Loop(Control):
    """A graph run again and again (ONNX Loop 25).

    body: inputs iteration, condition, carried tensors, captured ones; outputs condition, carried
    tensors, and what is stacked over iterations. captures: how many are captured.
    """

    body: Graph
    captures: int = 0

    kinds = "iu"

    @property
    def graphs(self) -> tuple[Graph, ...]:
        return (self.body,)

    def captured(self, inputs: int) -> int:
        return self.captures

    def _carried(self) -> int:
        count = len(self.body.inputs) - 2 - self.captures
        if count < 0 or self.captures < 0 or len(self.body.outputs) <= count:
            raise GraphError(
                f"the body has {len(self.body.inputs)} inputs and {len(self.body.outputs)} "
                f"outputs, which do not fit {self.captures} captures"
            )
        return count

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        trips, condition, *rest = [*inputs, None, None][: max(len(inputs), 2)]
        if trips is None and condition is None:
            raise GraphError("a Loop without M and cond never ends")
        if trips is not None and trips.dtype != INT64:
            raise GraphError(f"M is {trips.dtype.name}, expected int64")
        if condition is not None and condition.dtype != BOOL:
            raise GraphError(f"cond is {condition.dtype.name}, expected bool")
        count = self._carried()
        initial = [given(rest, k) for k in range(min(count, len(rest)))]
        captured = rest[count:]
        # A body runs only where its condition is true.
        first = TensorType(INT64, ()), TensorType.of(np.array(True))

        def after(carried: list[TensorType]) -> list[TensorType]:
            condition, *made = infer_graph(self.body, [*first, *carried, *captured])
            return [*made, condition]

        states, (*results, goes_on) = settled(after, initial)
        if goes_on.dtype != BOOL:
            raise GraphError(f"the body's condition is {goes_on.dtype.name}, expected bool")
        steps = self._trips(trips, condition, goes_on)
        return (*states, *(_stacked(t, 0, steps) for t in results[count:]))

    def _trips(
        self, trips: TensorType | None, condition: TensorType | None, goes_on: TensorType
    ) -> Dim:
        """The number of iterations, where it is known."""
        start = True if condition is None else scalar(condition, "cond")
        if start is not None and not start:
            return 0
        always = condition is None or (goes_on.value is not None and bool(goes_on.value.all()))
        most = None if trips is None else scalar(trips, "M")
        return max(int(most), 0) if start and always and most is not None else None

    def run(self, bodies: Sequence[Body], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        trips, condition, *rest = [*inputs, None, None][: max(len(inputs), 2)]
        count = self._carried()
        states = [given(rest, k) for k in range(count)]
        captured = [given(rest, k) for k in range(count, len(rest))]
        most = None if trips is None else int(trips.reshape(()))
        goes_on = condition is None or bool(condition.reshape(()))
        rows: list[Sequence[Array]] = []
        truth = np.array(True)
        while goes_on and (most is None or len(rows) < most):
            step = np.array(len(rows), np.int64)
            ends, *made = bodies[0]([step, truth, *states, *captured])
            goes_on = condition is None or bool(ends.reshape(()))
            states, row = made[:count], made[count:]
            rows.append(row)
        if rows:
            return (*states, *_stack(rows, [0] * len(rows[0])))
        return (*states, *(_empty(t) for t in self.infer(arrays_types(inputs))[count:]))


@operator("Scan", inputs="initial_state_and_scan_inputs*", outputs="final_state_and_scan_outputs*")
class Scan(Control):
    """A graph run for each step of its scan inputs (ONNX Scan 25).

    body: inputs carried tensors, one step of each scan input, captured tensors; outputs carried
    tensors, and one step of each scan output. captures: how many are captured.
    """

    body: Graph
    num_scan_inputs: int
    captures: int = 0
    scan_input_axes: tuple[int, ...] = ()
    scan_input_directions: tuple[int, ...] = ()
    scan_output_axes: tuple[int, ...] = ()
    scan_output_directions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        states = len(self.body.inputs) - self.num_scan_inputs - self.captures
        outputs = len(self.body.outputs) - states
        if self.num_scan_inputs < 1 or min(self.captures, states, outputs) < 0:
            raise GraphError(
                f"the body has {len(self.body.inputs)} inputs and {len(self.body.outputs)} outputs,"
                f" which do not fit {self.num_scan_inputs} scan inputs and {self.captures} captures"
            )
        for name, count in (("input", self.num_scan_inputs), ("output", outputs)):
            for what in ("axes", "directions"):
                values = getattr(self, f"scan_{name}_{what}")
                if values and len(values) != count:
                    raise GraphError(f"scan_{name}_{what} are {list(values)}, expected {count}")
            if set(getattr(self, f"scan_{name}_directions")) - {0, 1}:
                raise GraphError(f"scan_{name}_directions are not 0 or 1")

    @property
    def graphs(self) -> tuple[Graph, ...]:
        return (self.body,)

    def captured(self, inputs: int) -> int:
        return self.captures

    def _places(self) -> tuple[int, int]:
        """Where the scan inputs begin and end among the inputs."""
        end = len(self.body.inputs) - self.captures
        return end - self.num_scan_inputs, end

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        begin, end = self._places()
        if len(inputs) != len(self.body.inputs):
            raise GraphError(f"{len(inputs)} inputs, the body has {len(self.body.inputs)}")
        steps: Dim = None
        elements = []
        for k in range(begin, end):
            kind = given(inputs, k)
            shape: Shape | None = None
            if kind.shape is not None:
                axis = axis_of(_of(self.scan_input_axes, k - begin), len(kind.shape))
                steps = merged(steps, kind.shape[axis], "lengths of scan inputs")
                shape = (*kind.shape[:axis], *kind.shape[axis + 1 :])
            elements.append(TensorType(kind.dtype, shape))
        states, results = settled(
            lambda carried: infer_graph(self.body, [*carried, *elements, *inputs[end:]]),
            [given(inputs, k) for k in range(begin)],
        )
        axes = (_of(self.scan_output_axes, k) for k in range(len(results) - begin))
        return (
            *states,
            *(_stacked(t, a, steps) for t, a in zip(results[begin:], axes, strict=True)),
        )

    def run(self, bodies: Sequence[Body], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        begin, end = self._places()
        arrays = [given(inputs, k) for k in range(len(inputs))]
        turned = [
            np.moveaxis(x, _of(self.scan_input_axes, k), 0)[
                :: -1 if _of(self.scan_input_directions, k) else 1
            ]
            for k, x in enumerate(arrays[begin:end])
        ]
        if len({len(x) for x in turned}) > 1:
            raise DataError(f"scan inputs have {[len(x) for x in turned]} steps, expected as many")
        states, rows = arrays[:begin], []
        for t in range(len(turned[0])):
            made = bodies[0]([*states, *(x[t, ...] for x in turned), *arrays[end:]])
            states = list(made[:begin])
            rows.append(made[begin:])
        if not rows:
            return (*states, *(_empty(t) for t in self.infer(arrays_types(inputs))[begin:]))
        count = len(rows[0])
        stacked = _stack(rows, [_of(self.scan_output_axes, k) for k in range(count)])
        directions = [_of(self.scan_output_directions, k) for k in range(count)]
        axes = [_of(self.scan_output_axes, k) for k in range(count)]
        pairs = zip(stacked, directions, axes, strict=True)
        return (*states, *(np.flip(x, a) if d else x for x, d, a in pairs))


def _of(values: tuple[int, ...], k: int) -> int:
    return values[k] if values else 0


def _stacked(t: TensorType, axis: int, steps: Dim) -> TensorType:
    """The type of tensors like `t` along a new axis."""
    if t.shape is None:
        return TensorType(t.dtype, None)
    axis = axis_of(axis, len(t.shape) + 1)
    return TensorType(t.dtype, (*t.shape[:axis], steps, *t.shape[axis:]))


def _stack(rows: Sequence[Sequence[Array]], axes: Sequence[int]) -> Iterator[Array]:
    """Each of the tensors of a row, over all rows, along a new axis. Raises DataError."""
    for k, axis in enumerate(axes):
        items = [row[k] for row in rows]
        if len({item.shape for item in items}) > 1:
            shapes = sorted({item.shape for item in items})
            raise DataError(f"stacked output {k} has the shapes {shapes[0]} and {shapes[1]}")
        yield np.stack(items, axis)


def _empty(t: TensorType) -> Array:
    """No steps of a tensor; sizes that are not known are 0."""
    shape = (0,) if t.shape is None else [d if isinstance(d, int) else 0 for d in t.shape]
    return np.zeros(shape, t.dtype)
