"""Recurrent layers one upon the other, side by side on threads: the same bits as one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from lightrnn.engine.executor import Executor
from lightrnn.engine.interpret import evaluate
from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.errors import DataError
from lightrnn.graph import FLOAT32, Array, Attr, Graph, Node, TensorType
from lightrnn.native import library
from tests.teams import run_on

pytestmark = pytest.mark.native

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
HIDDEN = (17, 5, 16, 9)
INPUTS = 6


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    return (rng.standard_normal(shape) * 0.5).astype(np.float32)


class Stacked:
    """A graph of layers, each reading the one before; made node by node, with values for inputs."""

    def __init__(self, seed: int, time: int, batch: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.time, self.batch = time, batch
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {"one": np.array([1])}
        self.inputs: dict[str, Array] = {}
        self.outputs: list[str] = []
        self.x, self.width = "", INPUTS

    def begin(self, embedded: bool) -> Stacked:
        if embedded:
            self.constants["table"] = drawn(self.rng, 20, INPUTS)
            self.inputs["x"] = self.rng.integers(-20, 20, (self.time, self.batch))
            self.nodes.append(Node("Gather", ("table", "x"), ("rows",), {"axis": 0}))
            self.x = "rows"
        else:
            self.inputs["x"] = drawn(self.rng, self.time, self.batch, INPUTS)
            self.x = "x"
        return self

    def layer(
        self,
        op: str,
        hidden: int,
        *,
        lengths: str = "",
        states: Sequence[str] = (),
        attrs: Mapping[str, Attr] | None = None,
    ) -> Stacked:
        """lengths, states: names of inputs of the layer. Its last states become outputs."""
        k = sum(node.op in GATES for node in self.nodes)
        gates, made = GATES[op] * hidden, (f"y{k}", f"h{k}", f"c{k}")[: 3 if op == "LSTM" else 2]
        self.constants[f"w{k}"] = drawn(self.rng, 1, gates, self.width)
        shrink = np.float32(hidden**-0.5)  # larger ones amplify what is rounded, step by step
        self.constants[f"r{k}"] = drawn(self.rng, 1, gates, hidden) * shrink
        self.constants[f"b{k}"] = drawn(self.rng, 1, 2 * gates)
        inputs = (self.x, f"w{k}", f"r{k}", f"b{k}", lengths, *states)
        attributes = {"hidden_size": hidden, **(attrs or {})}
        self.nodes.append(Node(op, inputs, made, attributes, f"layer {k}"))
        self.nodes.append(Node("Squeeze", (f"y{k}", "one"), (f"x{k}",)))
        self.outputs += made[1:]
        self.x, self.width = f"x{k}", hidden
        return self

    def graph(self, *outputs: str) -> Graph:
        kinds = {n: TensorType(a.dtype, (None,) * a.ndim) for n, a in self.inputs.items()}
        wanted = dict.fromkeys([self.x, *self.outputs, *outputs])
        types = {name: TensorType(FLOAT32, None) for name in wanted}
        return Graph(kinds, types, tuple(self.nodes), self.constants)


def run(made: Stacked, *outputs: str, most: int = 3) -> Plan:
    """Run on one to four threads, one layer after the other, and on NumPy semantics; the plan.

    most: threads that the plan is for.
    """
    graph, arrays = made.graph(*outputs), list(made.inputs.values())
    shapes = tuple(a.shape for a in arrays)
    names = tuple(graph.outputs)
    plan = prepare(graph, names, PackedStore(threads=most)).plan(shapes)
    wanted = evaluate(graph, made.inputs)
    apart = run_on(1, prepare(graph, names, PackedStore()).plan(shapes), arrays)
    for found, name in zip(apart, names, strict=True):
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=2e-6)
    for threads in (1, 2, 3, 4):
        for found, expected in zip(run_on(threads, plan, arrays), apart, strict=True):
            assert found.tobytes() == expected.tobytes(), threads
    return plan


@pytest.mark.parametrize("seed", range(24))
def test_side_by_side_gives_the_bits_of_one_by_one(seed: int) -> None:
    """Layers of all kinds and sizes, with lengths and initial states or without."""
    rng = np.random.default_rng(1000 + seed)
    batch, layers = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    made = Stacked(seed, int(rng.integers(72, 120)), batch).begin(bool(rng.integers(2)))
    lengths = "lengths" if rng.integers(2) else ""
    if lengths:
        made.inputs[lengths] = rng.integers(0, made.time + 1, batch).astype(np.int32)
    for k in range(layers):
        op, hidden = str(rng.choice(list(GATES))), int(rng.choice(HIDDEN))
        states = [f"h_in{k}", f"c_in{k}"][: (2 if op == "LSTM" else 1) * int(rng.integers(2))]
        for name in states:
            made.inputs[name] = drawn(rng, 1, batch, hidden)
        attrs: dict[str, Attr] = {"clip": 0.7} if rng.integers(4) == 0 else {}
        if op == "GRU":
            attrs["linear_before_reset"] = int(rng.integers(2))
        made.layer(op, hidden, lengths=lengths, states=states, attrs=attrs)
    assert run(made).branches == min(layers, 3)


@pytest.mark.parametrize(("time", "batch"), [(0, 2), (1, 1), (20, 1), (100, 9), (5, 0)])
def test_short_sequences_and_large_batches_go_one_by_one(time: int, batch: int) -> None:
    made = Stacked(1, time, batch).begin(False).layer("LSTM", 7).layer("GRU", 5)
    assert run(made).branches == 0


def test_large_layers_go_one_by_one() -> None:
    made = Stacked(2, 72, 1).begin(False).layer("LSTM", 200).layer("LSTM", 8)
    assert run(made).branches == 0


def test_plans_for_one_thread_have_nothing_side_by_side() -> None:
    made = Stacked(3, 80, 1).begin(False).layer("GRU", 6).layer("GRU", 6)
    assert run(made, most=1).branches == 0


def test_states_cut_from_one_tensor_between_the_layers() -> None:
    """As exporters write them: the second layer's state is cut out after the first layer."""
    made = Stacked(4, 80, 2).begin(False)
    made.inputs["states"] = drawn(made.rng, 2, 2, 6)
    made.constants.update(first=np.array([0]), second=np.array([1]), third=np.array([2]))
    cuts = [
        Node("Slice", ("states", start, end, "first"), (name,))
        for start, end, name in (("first", "second", "s0"), ("second", "third", "s1"))
    ]
    made.nodes.append(cuts[0])
    made.layer("GRU", 6, states=["s0"])
    made.nodes.append(cuts[1])
    made.layer("GRU", 6, states=["s1"])
    made.nodes.append(Node("Neg", ("h0",), ("after",)))
    assert run(made, "after").branches == 2


def test_as_torch_exports_what_is_between_layers() -> None:
    """Y [T, 1, N, S] is turned and reshaped, its sizes taken from its shape."""
    made = Stacked(5, 80, 2).begin(False).layer("LSTM", 5)
    made.nodes[-1:] = [
        Node("Transpose", ("y0",), ("turned",), {"perm": (0, 2, 1, 3)}),
        Node("Shape", ("turned",), ("sizes",), {"start": 0, "end": 2}),
        Node("Concat", ("sizes", "rest"), ("shape",), {"axis": 0}),
        Node("Reshape", ("turned", "shape"), ("x0",)),
    ]
    made.constants["rest"] = np.array([-1])
    assert run(made.layer("LSTM", 6)).branches == 2


def test_what_others_read_too() -> None:
    made = Stacked(6, 80, 2).begin(False).layer("GRU", 5).layer("RNN", 6)
    made.nodes.append(Node("Neg", ("x0",), ("after",)))
    assert run(made, "y0", "x0", "after").branches == 2


def test_two_stacks_in_one_graph() -> None:
    made = Stacked(7, 80, 1).begin(False).layer("RNN", 5).layer("RNN", 6)
    made.nodes.append(Node("Tanh", (made.x,), ("turned",)))
    made.x = "turned"
    plan = run(made.layer("GRU", 5).layer("LSTM", 7))
    nodes = [i.node.origin for i in plan.instructions if i.kernel == "lstm"]
    assert plan.branches == 2
    assert set(nodes) == {"layer 3"}


def test_more_layers_than_threads_take_turns() -> None:
    made = Stacked(8, 80, 1).begin(True)
    for _ in range(5):
        made.layer("GRU", 6)
    assert run(made, most=2).branches == 2


def test_a_state_that_the_layer_below_makes_comes_after_it() -> None:
    for turned in (False, True):
        made = Stacked(9, 80, 2).begin(False).layer("GRU", 5)
        if turned:
            made.nodes.append(Node("Neg", ("h0",), ("turned",)))
        made.layer("GRU", 5, states=["turned" if turned else "h0"])
        assert run(made).branches == 0


def test_other_rows_of_the_layer_below_come_after_it() -> None:
    """More steps of fewer rows: the same memory in another shape."""
    made = Stacked(10, 72, 2).begin(False).layer("GRU", 5)
    made.nodes[-1] = Node("Reshape", ("y0", "shape"), ("x0",))
    made.constants["shape"] = np.array([144, 1, 5])
    assert run(made.layer("GRU", 5)).branches == 0


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_layers_going_backward_stay_apart(direction: str) -> None:
    made = Stacked(9, 80, 1).begin(False).layer("GRU", 5).layer("GRU", 5)
    node = made.nodes[0]
    made.nodes[0] = Node(node.op, node.inputs, node.outputs, {**node.attrs, "direction": direction})
    if direction == "bidirectional":
        for name in "wrb":
            made.constants[f"{name}0"] = np.repeat(made.constants[f"{name}0"], 2, axis=0)
        made.nodes[1] = Node("ReduceSum", ("y0", "one"), ("x0",), {"keepdims": 0})
    assert run(made).branches == 0


def test_a_bad_length_names_the_layer() -> None:
    made = Stacked(10, 80, 2).begin(False)
    made.inputs["lengths"] = np.array([3, 81], np.int32)
    graph = made.layer("GRU", 5, lengths="lengths").layer("GRU", 5, lengths="lengths").graph()
    kernels = library.load()
    assert kernels is not None
    arrays = list(made.inputs.values())
    plan = prepare(graph, tuple(graph.outputs), PackedStore(threads=2)).plan(
        tuple(a.shape for a in arrays)
    )
    with pytest.raises(DataError, match=r"GRU node 'layer [01]': an index or a length"):
        Executor(kernels, 1).run(plan, arrays)


def test_the_plan_lists_what_runs_side_by_side() -> None:
    plan = run(Stacked(11, 72, 1).begin(False).layer("GRU", 5).layer("LSTM", 5))
    lines = str(plan).splitlines()
    assert sum(line.startswith("  side_by_side") for line in lines) == 2
    assert sum(line.startswith("    lstm") for line in lines) == 2
