"""Bind a graph to concrete input shapes: known values, buffers, instructions."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightrnn.engine.grip import Grip
from lightrnn.engine.interpret import evaluate_operator
from lightrnn.engine.memory import Buffer, address, aligned_copy, lay_out, rounded
from lightrnn.engine.pace import Pace
from lightrnn.engine.plan import HostStep, Instruction, NativeStep, Place, Plan, Tail, Words
from lightrnn.graph import Array, Node, TensorType
from lightrnn.graph.check import infer
from lightrnn.native import abi
from lightrnn.ops import Operator
from lightrnn.ops.lowering import Operand, Ref

if TYPE_CHECKING:
    from lightrnn.engine.prepare import Prepared
    from lightrnn.ops.recurrent_lowering import Layer


class Call:
    """A kernel call while its arguments are still places, with what it runs side by side."""

    __slots__ = ("branches", "kernel", "node", "words", "work")

    def __init__(
        self,
        kernel: str,
        words: tuple[Ref | int, ...],
        work: int,
        node: Node,
        branches: Sequence[list[Call]] = (),
    ) -> None:
        self.kernel, self.words, self.work, self.node = kernel, words, work, node
        self.branches = branches


_NOTHING = np.empty(0, np.uint8)
"""Stands in a buffer that turned out not to be needed."""


LENT = 1 << 15
"""Bytes of an input or output from which on not to copy it saves more than pointing to it takes."""


def _nbytes(kind: TensorType) -> int:
    nbytes = kind.dtype.itemsize
    for size in kind.sizes:
        nbytes *= size
    return nbytes


class Binder:
    """Makes one plan; the emitter that operators lower to."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._shapes: tuple[tuple[int, ...], ...] = ()
        self._types: dict[str, TensorType] = {}
        self._refs: dict[str, Ref] = {}
        self._buffers: list[Buffer] = []
        self._calls: list[Call] = []
        self._branch: list[Call] | None = None
        self._layers: list[tuple[Layer, Node, int]] = []
        self._steps: list[NativeStep | HostStep | tuple[Node, Operator]] = []
        self._packed: dict[int, Array] = {}
        self._node: Node = Node("", (), ())
        self._node_number = 0
        self._native_from = 0
        self._carry = 0
        self._after: dict[str, int] = {}

    def bind(self, shapes: Sequence[tuple[int, ...]]) -> Plan:
        """The plan for inputs of these shapes."""
        prepared = self._prepared
        self._shapes = tuple(shapes)
        for (name, kind), shape in zip(prepared.graph.inputs.items(), shapes, strict=True):
            self._allocate(name, TensorType(kind.dtype, shape))
        self._place_states()
        for number, (node, op) in enumerate(prepared.nodes):
            self._node, self._node_number = node, number
            if not self._bind_node(node, op):
                return self._finish(split=number)
        return self._finish(split=None)

    def _place_states(self) -> None:
        """Put the inputs that hold states at the arena's front, and plan those after the run."""
        for name, output in self._prepared.carried.items():
            buffer = self._buffers[self._refs[name].base]
            buffer.offset = self._carry
            self._after.setdefault(output, self._carry)
            self._carry += rounded(buffer.nbytes)

    def _carries(self) -> bool:
        """Whether every state after the run lies where the next run's carry expects it."""
        for name, output in self._prepared.carried.items():
            ref, before = self._refs.get(output), self._buffers[self._refs[name].base]
            kinds = self._type(name), self._type(output)
            if ref is None or ref.offset or kinds[1].value is not None or kinds[0] != kinds[1]:
                return False
            if self._buffers[ref.base].offset != self._carry + before.offset:
                return False
        return True

    # What operators call

    @property
    def target(self) -> str:
        return self._prepared.target

    @property
    def level(self) -> str:
        return self._prepared.level

    def call(self, kernel: str, *args: Ref | Operand | int | float | None, work: int) -> None:
        self._emit_layers()
        words: list[Ref | int] = []
        given = iter(args)
        now = len(self._calls) + 1
        for kind in abi.KERNELS[kernel].kinds:
            if kind == "node":
                words.append(self._node_number)
            elif kind in abi.FILLED_IN:
                words.append(0)
            elif kind == "tail":
                break
            else:
                words.append(self._word(next(given), kind, now))
        words.extend(self._word(arg, "int", now) for arg in given)
        calls = self._calls if self._branch is None else self._branch
        calls.append(Call(kernel, tuple(words), work, self._node))

    def layer(self, layer: Layer) -> None:
        from lightrnn.ops.recurrent_stack import GPU_LAYERS, reads_alone

        below = [one for one, _, _ in self._layers]
        most = self._prepared.threads if self.target == "cpu" else GPU_LAYERS
        if below and not (len(below) < most and reads_alone(layer, below)):
            self._emit_layers()
        self._layers.append((layer, self._node, self._node_number))
        if most == 1:
            self._emit_layers()

    def _emit_layers(self) -> None:
        """Emit the layers that wait for others to join them; before any other call."""
        if not self._layers:
            return
        from lightrnn.ops.recurrent_stack import lower_layers

        layers, self._layers = self._layers, []
        node = self._node, self._node_number

        def enter(k: int) -> None:
            _, self._node, self._node_number = layers[k]

        lower_layers(self, [layer for layer, _, _ in layers], enter)
        self._node, self._node_number = node

    def side_by_side(self, parts: Sequence[Callable[[], None]]) -> None:
        if len(parts) == 1:
            for part in parts:
                part()
            return
        assert self._branch is None, "branches of branches"
        branches = []
        for part in parts:  # all at one time of every buffer's life: no call is counted meanwhile
            self._branch = []
            part()
            branches.append(self._branch)
        self._branch = None
        work = sum(call.work for branch in branches for call in branch)
        words = 0, 0, len(parts)
        self._calls.append(Call("side_by_side", words, work, self._node, branches))

    def scratch(self, nbytes: int) -> Ref:
        now = len(self._calls) + 1
        return self._buffer(Buffer(nbytes, None, now, now))

    def constant(self, array: Array) -> Ref:
        return self._buffer(Buffer(array.nbytes, aligned_copy(array)))

    def packed(
        self, sources: tuple[Operand, ...], layout: Hashable, pack: Callable[..., Array]
    ) -> Ref:
        values = tuple(s.value for s in sources if s.value is not None)
        assert len(values) == len(sources)
        if all(s.constant for s in sources):
            array = self._prepared.packed(values, layout, pack)
        else:
            array = aligned_copy(pack(*values))
        self._packed[id(array)] = array
        return self._buffer(Buffer(array.nbytes, array))

    def view(self, output: Operand, source: Operand, offset: int = 0) -> bool:
        if output.name in self._after:
            return False
        self._buffers[output.ref.base].array = _NOTHING
        self._refs[output.name] = source.ref + offset
        return True

    # One node

    def _bind_node(self, node: Node, op: Operator) -> bool:
        """Bind a node; False if the shapes of its outputs depend on values."""
        inputs = [self._type(name) if name else None for name in node.inputs]
        if all(t is None or t.value is not None for t in inputs):
            self._fold(node, op, inputs)
            return True
        types = infer(node, op, inputs)
        wanted = list(zip(node.outputs, types, strict=False))
        if any(name and t.value is None and not t.is_concrete for name, t in wanted):
            self._types.update((name, TensorType(t.dtype, None)) for name, t in wanted if name)
            return False
        if all(not name or t.value is not None for name, t in wanted):
            for name, t in wanted:
                if name:
                    self._types[name] = t
            return True
        self._lower(node, op, inputs, wanted)
        return True

    def _fold(self, node: Node, op: Operator, inputs: Sequence[TensorType | None]) -> None:
        values = evaluate_operator(node, op, (None if t is None else t.value for t in inputs))
        for name, value in zip(node.outputs, values, strict=False):
            if name:
                self._types[name] = TensorType.of(np.ascontiguousarray(value).reshape(value.shape))

    def _lower(
        self,
        node: Node,
        op: Operator,
        inputs: Sequence[TensorType | None],
        wanted: Sequence[tuple[str, TensorType]],
    ) -> None:
        given = [self._operand(name) if name else None for name in node.inputs]
        before = len(self._calls)
        self._use(given, before + 1)
        outputs: list[Operand | None] = []
        for name, kind in wanted:
            if name:
                self._allocate(name, TensorType(kind.dtype, kind.shape), before + 1)
            outputs.append(self._operand(name) if name else None)
        if op.lower(self, given, outputs):
            self._use([*given, *(self._operand(n) for n, _ in wanted if n)], len(self._calls))
            return
        assert len(self._calls) == before, f"{node} emitted calls, then gave up"
        self._emit_layers()
        self._end_native()
        self._calls.append(Call("", (), 0, node))  # a host step takes one tick of every lifetime
        self._native_from = len(self._calls)
        self._steps.append((node, op))
        self._use([*given, *outputs], len(self._calls))

    def _end_native(self) -> None:
        first, last = self._native_from, len(self._calls)
        if last > first:
            work = sum(call.work for call in self._calls[first:last])
            self._steps.append(NativeStep(first, last, work, Pace(), Grip()))

    # Tensors and memory

    def _type(self, name: str) -> TensorType:
        known = self._types.get(name)
        if known is None:
            known = self._types[name] = TensorType.of(self._prepared.graph.constants[name])
        return known

    def _operand(self, name: str) -> Operand:
        kind = self._type(name)
        ref = self._refs.get(name)
        if ref is None:
            assert kind.value is not None
            ref = self._refs[name] = self._buffer(Buffer(kind.value.nbytes, kind.value))
        prepared = self._prepared
        stored = prepared.encodings.get(name, "float32")
        return Operand(name, kind, ref, name in prepared.lasting, stored)

    def _allocate(self, name: str, kind: TensorType, first: int = 0) -> None:
        nbytes = _nbytes(kind)
        self._types[name] = kind
        after = self._after.get(name)
        offset = -1 if after is None else self._carry + after
        self._refs[name] = self._buffer(Buffer(nbytes, None, first, first, offset))

    def _buffer(self, buffer: Buffer) -> Ref:
        self._buffers.append(buffer)
        return Ref(len(self._buffers) - 1)

    def _use(self, operands: Sequence[Operand | None], when: int) -> None:
        for operand in operands:
            if operand is not None:
                buffer = self._buffers[operand.ref.base]
                buffer.last = max(buffer.last, when)

    def _word(self, arg: Ref | Operand | int | float | None, kind: str, now: int) -> Ref | int:
        if type(arg) is int and kind != "float":
            return arg
        if arg is None:
            return 0
        if isinstance(arg, Operand):
            arg = arg.ref
        if isinstance(arg, Ref):
            buffer = self._buffers[arg.base]
            buffer.last = max(buffer.last, now)
            return arg
        if kind == "float" or isinstance(arg, float):
            return int(struct.unpack("<q", struct.pack("<d", arg))[0])
        return int(arg)

    # The plan

    def _finish(self, split: int | None) -> Plan:
        prepared = self._prepared
        live: list[str] = []
        kept = list(prepared.graph.outputs)
        if split is not None:
            live = prepared.live_after(split)
            kept = [*(n for n in prepared.nodes[split][0].inputs if n), *live]
        self._emit_layers()
        end = len(self._calls) + 1
        for name in kept:
            if self._type(name).value is None:
                self._buffers[self._refs[name].base].last = end
        self._end_native()
        carries = split is None and self._carries()
        calls = self._all_calls()
        lendable = self._lendable() if split is None else frozenset()
        arena_bytes = lay_out(self._buffers, 2 * self._carry)
        inputs, outputs = tuple(prepared.graph.inputs), tuple(prepared.graph.outputs)
        return Plan(
            key=(prepared, *self._shapes),
            names=outputs,
            nodes=tuple(node for node, _ in prepared.nodes),
            inputs=tuple(self._place(name) for name in inputs),
            outputs=() if split is not None else tuple(self._place(n) for n in outputs),
            instructions=self._instructions(calls),
            steps=tuple(self._step(step) for step in self._steps),
            arena_bytes=arena_bytes,
            packed_bytes=sum(a.nbytes for a in self._packed.values()),
            tail=None if split is None else self._tail(split, live),
            carry=self._carry if carries else None,
            input_words=tuple(self._words(calls, n) if n in lendable else None for n in inputs),
            output_words=tuple(self._words(calls, n) if n in lendable else None for n in outputs),
            alive=tuple(b.array for b in self._buffers if b.array is not None),
        )

    def _lendable(self) -> frozenset[str]:
        """Large inputs and outputs that may lie outside the arena; before that is laid out.

        All that reads and writes them are instructions, of which no other has a name for the same
        memory. Inputs are float32: what kernels check before they use it must not change meanwhile.
        """
        inputs, outputs = self._prepared.graph.inputs, self._prepared.graph.outputs
        if any(not isinstance(step, NativeStep) for step in self._steps):
            return frozenset()
        placed = [n for n in (*inputs, *outputs) if self._type(n).value is None]
        names = Counter(self._refs[name].base for name in placed)
        lendable = set()
        for name in placed:
            kind, ref = self._type(name), self._refs[name]
            buffer = self._buffers[ref.base]
            whole = ref.offset == 0 and _nbytes(kind) == buffer.nbytes >= LENT
            free = buffer.array is None and buffer.offset < 0 and names[ref.base] == 1
            if whole and free and (name in outputs or kind.dtype == np.float32):
                lendable.add(name)
        return frozenset(lendable)

    def _all_calls(self) -> list[tuple[Call, int]]:
        """All calls, then those of their branches, each with the number of its branch or 0."""
        numbered = [(k, b) for call in self._calls for k, b in enumerate(call.branches, 1)]
        return [*((c, 0) for c in self._calls), *((c, k) for k, b in numbered for c in b)]

    def _words(self, calls: Sequence[tuple[Call, int]], name: str) -> Words:
        """Where calls point into the memory of a tensor."""
        base = self._refs[name].base
        return tuple(
            (k, place)
            for k, (call, _) in enumerate(calls)
            for place, word in enumerate(call.words)
            if isinstance(word, Ref) and word.base == base
        )

    def _instructions(self, calls: Sequence[tuple[Call, int]]) -> tuple[Instruction, ...]:
        """What `_all_calls` are once all has its place."""
        made = tuple(self._instruction(call, branch) for call, branch in calls)
        end = len(self._calls)
        for call, instruction in zip(self._calls, made, strict=False):
            for branch in call.branches:
                instruction.args.extend((end, end + len(branch)))
                end += len(branch)
        return made

    def _instruction(self, call: Call, branch: int) -> Instruction:
        if not call.kernel:
            return Instruction("", array("q"), (), None, 0, call.node)
        args, places = [], []
        for k, word in enumerate(call.words):
            if isinstance(word, Ref):
                buffer = self._buffers[word.base]
                if buffer.array is None:
                    places.append(k)
                    args.append(buffer.offset + word.offset)
                else:
                    args.append(address(buffer.array) + word.offset)
            else:
                args.append(word)
        signature = abi.KERNELS[call.kernel]
        return Instruction(
            call.kernel, array("q", args), tuple(places), signature, call.work, call.node, branch
        )

    def _step(self, step: NativeStep | HostStep | tuple[Node, Operator]) -> NativeStep | HostStep:
        if isinstance(step, NativeStep | HostStep):
            return step
        node, op = step
        return HostStep(
            node,
            op,
            tuple(self._place(n) if n else None for n in node.inputs),
            tuple(self._place(n) if n else None for n in node.outputs),
        )

    def _place(self, name: str) -> Place:
        kind = self._type(name)
        if kind.value is not None:
            return Place(kind, array=kind.value)
        ref = self._refs[name]
        buffer = self._buffers[ref.base]
        if buffer.array is None:
            return Place(kind, offset=buffer.offset + ref.offset)
        data = buffer.array.reshape(-1).view(np.uint8)[ref.offset :]
        return Place(kind, array=data[: _nbytes(kind)].view(kind.dtype).reshape(kind.sizes))

    def _tail(self, split: int, live: list[str]) -> Tail:
        node, op = self._prepared.nodes[split]
        known: Mapping[str, Array] = {
            name: kind.value for name, kind in self._types.items() if kind.value is not None
        }
        unknown = [name for name in live if name not in known]
        made = [name for name in node.outputs if name]
        return Tail(
            node,
            op,
            tuple(self._place(n) if n else None for n in node.inputs),
            tuple((name, self._place(name)) for name in unknown),
            self._prepared.rest(split, {n: self._type(n) for n in [*unknown, *made]}, known),
        )
