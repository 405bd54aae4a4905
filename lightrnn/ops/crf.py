"""Decoding of a linear-chain conditional random field, one of lightrnn's own operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import FLOAT32, INT32, INT64, Array, TensorType
from lightrnn.ops.arguments import given, same_size
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.packing import padded
from lightrnn.ops.registry import Case, Operator, Types, operator


@operator("ViterbiDecode", inputs="X transitions start? end? lengths?", outputs="tags score?")
class ViterbiDecode(Operator):
    """The most likely tags of each sequence (Viterbi 1967; Lafferty, McCallum, Pereira 2001).

    X float32 [N, T, L], scores of L tags at each step; transitions [L, L], from the row's tag to
    the column's; start, end [L], of the first and the last tag; lengths int32 [N]. tags int64
    [N, T], 0 from a row's length on; score float32 [N], of the tags returned. Of tags that are
    equally likely the lowest wins.
    """

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, transitions = given(inputs), given(inputs, 1)
        for name, t, rank in zip(self.inputs.names, inputs, (3, 2, 1, 1, 1), strict=False):
            wanted = INT32 if name == "lengths" else FLOAT32
            if t is not None and t.dtype != wanted:
                raise GraphError(f"{name} is {t.dtype}, expected {wanted}")
            if t is not None and t.rank not in (None, rank):
                raise GraphError(f"{name} has rank {t.rank}, expected {rank}")
        batch, steps, labels = (None, None, None) if x.shape is None else x.shape
        for t, wanted_size in zip(inputs[1:], (labels, labels, labels, batch), strict=False):
            if t is not None and t.shape:
                same_size(t.shape[0], wanted_size, "sizes of X and the other inputs")
        if transitions.shape:
            same_size(transitions.shape[1], labels, "columns of transitions and tags of X")
        if labels == 0:
            raise GraphError("X has no tags")
        return TensorType(INT64, (batch, steps)), TensorType(FLOAT32, (batch,))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, transitions, start, end, lengths = (*inputs, None, None, None)[:5]
        assert x is not None
        assert transitions is not None
        zeros = np.zeros(x.shape[2], np.float32)
        start, end = (zeros if a is None else a for a in (start, end))
        tags, scores = np.zeros(x.shape[:2], np.int64), np.zeros(len(x), np.float32)
        for n, row in enumerate(x):
            length = len(row) if lengths is None else int(lengths[n])
            if not 0 <= length <= len(row):
                raise DataError(f"lengths[{n}] is {length}, outside 0 to {len(row)}")
            if length:
                tags[n, :length], scores[n] = _best_path(row[:length], transitions, start, end)
        return tags, scores

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, transitions, start, end, lengths = (*inputs, None, None, None)[:5]
        assert x is not None
        assert transitions is not None
        if transitions.value is None:
            return False
        batch, steps, labels = x.shape
        width = padded(labels)
        table = emit.packed((transitions,), "columns", lambda t: _wide(t, width))
        back = emit.scratch(batch * max(steps, 1) * width * 4)
        alphas = emit.scratch(batch * 2 * width * 4)
        tags, score = (*outputs, None)[:2]
        emit.call(
            "viterbi", x, table, start, end, lengths, tags, score, back, alphas,
            batch, steps, labels, work=batch * steps * labels * width,
        )  # fmt: skip
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for batch, steps, labels, optional in (
            (2, 5, 4, ""), (3, 9, 17, "start end"), (4, 6, 3, "end lengths"), (1, 1, 1, ""),
            (2, 0, 3, ""), (0, 4, 3, "start"), (5, 12, 33, "start end lengths"),
        ):  # fmt: skip
            shapes = {"transitions": (labels, labels), "start": (labels,), "end": (labels,)}
            x = rng.standard_normal((batch, steps, labels)).astype(np.float32)
            arrays: list[Array | None] = [x]
            for name, shape in shapes.items():
                wanted = name == "transitions" or name in optional
                array = rng.standard_normal(shape).astype(np.float32) if wanted else None
                arrays.append(array)
            if "lengths" in optional:
                arrays.append(rng.integers(0, steps + 1, batch).astype(np.int32))
            yield Case(f"N{batch} T{steps} L{labels} {optional}", tuple(arrays))


def _best_path(x: Array, transitions: Array, start: Array, end: Array) -> tuple[Array, np.float32]:
    """Tags [T] and their score for scores [T, L], T at least 1."""
    alpha, back = start + x[0], np.zeros(x.shape, np.int64)
    for t in range(1, len(x)):
        scores = alpha[:, None] + transitions
        back[t] = scores.argmax(axis=0)
        alpha = scores.max(axis=0) + x[t]
    alpha = alpha + end
    tags = np.zeros(len(x), np.int64)
    tags[-1] = alpha.argmax()
    for t in range(len(x) - 1, 0, -1):
        tags[t - 1] = back[t, tags[t]]
    return tags, alpha.max()


def _wide(transitions: Array, width: int) -> Array:
    """[L, L] with columns added up to whole vectors."""
    wide = np.zeros((len(transitions), width), np.float32)
    wide[:, : len(transitions)] = transitions
    return wide
