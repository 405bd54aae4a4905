"""Time through operators that move elements: shapes, orders, lookups, parts, repetitions."""

from __future__ import annotations

from math import prod

from lightrnn.ops.arguments import axes_of, axis_of
from lightrnn.ops.slicing import bounds
from lightrnn.streaming.marks import Call, Kind, Mark, Span, aligned, rule

_END = 2**31 - 1
"""Exporters write the end of an axis as this or more."""


@rule("Transpose")
def _transpose(c: Call) -> Mark:
    order = c.operator.perm or tuple(range(len(c.result)))[::-1]
    return c.time.at(order.index(c.time.axis))


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze", counted=(1,))
def _reshape(c: Call) -> Mark:
    """Time keeps its stride and its size; the axis that holds both holds time."""
    span = c.span(0)
    if span is None:
        return _by_count(c)
    if c.node.op == "Squeeze" and c.given(1) is None:
        c.refuse("drops every axis of size 1, time too in a piece of one step")
    source, target = c.shape(0), c.result
    if 0 in source:
        return Kind.REFUSED
    steps = source[span.axis] // (span.outer * span.inner)
    stride = prod(source[span.axis + 1 :]) * span.inner
    places = []
    for k, size in enumerate(target):
        below = prod(target[k + 1 :])
        if stride % below == 0 and size % (stride // below * steps) == 0:
            inner = stride // below
            places.append(Span(k, size // (inner * steps), inner))
    if not places:
        c.refuse("puts elements of different steps on one place of an axis", whole=True)
        return Kind.REFUSED
    return next((p for p in places if p.plain), places[0])


def _by_count(c: Call) -> Mark:
    c.refuse("takes its shape from the number of steps")
    return Kind.REFUSED


@rule("Gather", along=(0, 1), counted=(1,))
def _gather(c: Call) -> Mark:
    data, indices = c.span(0), c.span(1)
    axis = axis_of(c.operator.axis, len(c.shape(0)))
    if data is not None and indices is not None:
        c.refuse("looks up some steps in others", whole=True)
        return Kind.REFUSED
    if indices is not None:
        return indices.at(axis + indices.axis)
    if data is None:
        return _by_count(c)
    if data.axis != axis:
        return data if data.axis < axis else data.at(data.axis - 1 + len(c.shape(1)))
    numbers = c.values(1)
    if not data.plain or numbers is None or len(numbers) != 1 or not _is_last(c, 1, 0):
        return _selected(c)
    return Kind.LAST


def _is_last(c: Call, k: int, place: int) -> bool:
    """Whether a number of input `k` is the index of the last step, however many there are."""
    numbers = c.values(k)
    assert numbers is not None
    if c.counted(k)[place]:
        return numbers[place] == c.steps - 1
    return numbers[place] == -1


def _selected(c: Call) -> Mark:
    c.refuse("selects steps by their number, other than the last one alone")
    return Kind.REFUSED


@rule("Slice", counted=(1, 2))
def _slice(c: Call) -> Mark:
    span, rank = c.span(0), len(c.result)
    if span is None:
        return _by_count(c)
    starts, ends = c.values(1), c.values(2)
    axes = list(range(len(starts or ()))) if c.given(3) is None else c.values(3)
    if starts is None or ends is None or axes is None:
        c.refuse("slices axes that are not known before it runs", whole=True)
        return Kind.REFUSED
    axes = axes_of(axes, rank)
    if span.axis not in axes:
        return span
    k = axes.index(span.axis)
    step = 1 if c.given(4) is None else (c.values(4) or [0] * rank)[k]
    to_end = ends[k] >= c.steps if c.counted(2)[k] else ends[k] >= _END
    if step == 1 and to_end and span.plain:
        if _is_last(c, 1, k) and bounds(c.steps, starts[k], ends[k], 1)[1] == 1:
            return Kind.LAST
        if not c.counted(1)[k] and (starts[k] == 0 or starts[k] <= -_END):
            return span
    c.refuse("selects steps by their number, other than the last one alone")
    return span


@rule("Concat", along=None)
def _concat(c: Call) -> Mark:
    rank = len(c.result)
    axis = axis_of(c.operator.axis, rank)
    spans = [s for k in range(len(c.inputs)) if (s := c.span(k)) is not None]
    if any(s.axis == axis for s in spans):
        c.refuse("joins tensors along time")
        return spans[0]
    return aligned(c, range(len(c.inputs)), rank)


@rule("Split")
def _split(c: Call) -> Mark:
    if c.time.axis == axis_of(c.operator.axis, len(c.shape())):
        c.refuse("splits time")
    return c.time


@rule("Expand", "Tile", "ConstantOfShape", counted=(0, 1))
def _repeat(c: Call) -> Mark:
    """A tensor that is repeated for every step is along time, the same at each."""
    makes = c.node.op == "ConstantOfShape"
    data = c.given(0)
    shape = () if makes else c.shape(0)
    span = None if makes else c.span(0)
    before = (1,) * (len(c.result) - len(shape)) + shape
    if span is not None:
        here = span.at(span.axis + len(c.result) - len(shape))
        if c.result[here.axis] != before[here.axis]:
            c.refuse("repeats the steps")
        return here
    changed = c.counted(0 if makes else 1)
    changed = [False] * (len(c.result) - len(changed)) + changed
    grown = [k for k, (a, b) in enumerate(zip(before, c.result, strict=True)) if a != b]
    axes = [k for k in grown if changed[k]]
    known = makes or (data is not None and data.mark == Kind.STATIC and data.counts is None)
    if not known or len(axes) != 1 or c.result[axes[0]] != c.steps or before[axes[0]] != 1:
        return _by_count(c)
    return Span(axes[0])


@rule("Pad")
def _pad(c: Call) -> Mark:
    pads = c.values(1)
    axes = list(range(len(c.result))) if c.given(3) is None else c.values(3)
    if pads is None or axes is None:
        c.refuse("pads axes that are not known before it runs")
        return c.time
    axes = axes_of(axes, len(c.result))
    if c.time.axis in axes:
        k = axes.index(c.time.axis)
        if (pads[k], pads[k + len(axes)]) != (0, 0):
            c.refuse("pads time")
    return c.time


@rule("OneHot")
def _one_hot(c: Call) -> Mark:
    axis = axis_of(c.operator.axis, len(c.result))
    return c.time if c.time.axis < axis else c.time.at(c.time.axis + 1)


@rule("GatherElements", along=(0, 1))
def _gather_elements(c: Call) -> Mark:
    data, indices = c.span(0), c.span(1)
    if data is None or data != indices:
        c.refuse("looks up each step by its position", whole=True)
    elif data.axis == axis_of(c.operator.axis, len(c.result)):
        c.refuse("looks up some steps in others", whole=True)
    return indices or Kind.REFUSED


@rule("GatherND", along=(1,))
def _gather_tuples(c: Call) -> Mark:
    span = c.span(1)
    assert span is not None
    if c.operator.batch_dims > span.axis or span.axis == len(c.shape(1)) - 1:
        c.refuse("looks up each step by its position", whole=True)
    return span


@rule("ReverseSequence")
def _reverse(c: Call) -> Mark:
    if c.time.axis in (c.operator.time_axis, c.operator.batch_axis):
        c.refuse("reverses time", whole=True)
    return c.time


@rule("Trilu")
def _triangle(c: Call) -> Mark:
    if c.time.axis >= len(c.result) - 2:
        c.refuse("masks each step by its position", whole=True)
    return c.time
