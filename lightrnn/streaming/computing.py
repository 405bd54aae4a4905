"""Time through operators that compute: element by element, products, norms, reductions, windows."""

from __future__ import annotations

from collections.abc import Sequence

from lightrnn.ops.arguments import axes_of, axis_of
from lightrnn.ops.einsum import Equation
from lightrnn.streaming.marks import Call, Kind, Mark, Span, aligned, rule

ELEMENTWISE = (
    "Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp",
    "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf",
    "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign",
    "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    "Where", "Xor",
)  # fmt: skip
"""Operators whose result at an index depends on the inputs at that index, broadcast."""

REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
)  # fmt: skip


@rule(*ELEMENTWISE, along=None)
def _elementwise(c: Call) -> Mark:
    return aligned(c, range(len(c.inputs)), len(c.result))


@rule("CastLike", "Dropout", along=None)
def _first_input(c: Call) -> Mark:
    return c.span(0) or Kind.STATIC


def _summed(c: Call, verb: str = "sums") -> Mark:
    c.refuse(f"{verb} over time", whole=True)
    return Kind.REFUSED


@rule("MatMul", along=None)
def _matmul(c: Call) -> Mark:
    ranks = [len(c.shape(k)) for k in (0, 1)]
    batch = len(c.result) - sum(rank > 1 for rank in ranks)
    found: Span | None = None
    for k in (0, 1):
        span = c.span(k)
        if span is None:
            continue
        right = ranks[k] - span.axis
        if ranks[k] == 1 or right == 1 + k:
            return _summed(c)
        if right > 2:
            here = span.at(batch + 2 - right)
            _no_positions(c, 1 - k, right)
        else:
            here = span.at(len(c.result) - 1 if k or ranks[1] == 1 else batch)
        if found is not None and here != found:
            c.refuse("multiplies each step with every other", whole=True)
        found = found or here
    assert found is not None
    return found


def _no_positions(c: Call, k: int, right: int) -> None:
    """Refuse a factor that differs along time and is no input along time."""
    shape = c.shape(k)
    if c.span(k) is None and right <= len(shape) and shape[-right] != 1:
        c.refuse("multiplies each step with a matrix for its position")


@rule("MatMulInteger", along=(0, 1))
def _matmul_integer(c: Call) -> Mark:
    for k in (0, 1):
        zero = c.given(k + 2)
        if c.span(k) is not None and zero is not None and any(d != 1 for d in zero.type.sizes):
            c.refuse("subtracts a value for each position")
    return _matmul(c)


@rule("QuantizeLinear", "DequantizeLinear")
def _quantization(c: Call) -> Mark:
    scales = c.shape(1)
    along = axis_of(c.operator.axis, len(c.shape())) == c.time.axis
    if len(scales) > 1 or (along and scales not in ((), (1,))):
        c.refuse("scales each step by a value for its position")
    return c.time


@rule("DynamicQuantizeLinear")
def _dynamic_quantization(c: Call) -> Mark:
    c.refuse("takes its scale from all steps", whole=True)
    return Kind.REFUSED


@rule("Gemm", along=None)
def _gemm(c: Call) -> Mark:
    found: Span | None = None
    for k, kept in ((0, c.operator.transA), (1, 1 - c.operator.transB)):
        span = c.span(k)
        if span is None:
            continue
        if span.axis != kept:
            return _summed(c)
        if found is not None:
            c.refuse("multiplies each step with every other", whole=True)
        found = found or span.at(k)
    if found is None:
        c.refuse("adds each step to a row or column for its position")
    return aligned(c, [2] if c.given(2) is not None else [], 2, found)


@rule("Einsum", along=None)
def _einsum(c: Call) -> Mark:
    equation = Equation.parse(c.operator.equation)
    terms = [_axes(t, len(c.shape(k))) for k, t in enumerate(equation.operands)]
    names = {terms[k][s.axis]: s for k in range(len(terms)) if (s := c.span(k)) is not None}
    (name, span), *others = names.items()
    output = _axes(equation.output, len(c.result))
    if others or any(t.count(name) > 1 for t in terms):
        c.refuse("multiplies each step with every other", whole=True)
    if name not in output:
        return _summed(c)
    for k, term in enumerate(terms):
        other = c.span(k)
        if other is None and name in term and c.shape(k)[term.index(name)] != 1:
            c.refuse("multiplies each step with a value for its position")
        if other is not None and other.at(0) != span.at(0):
            c.refuse("joins tensors whose time is on different axes", whole=True)
    return span.at(output.index(name))


def _axes(term: str, rank: int) -> list[str]:
    """A name for each axis of an operand; those of an ellipsis count from the right."""
    left, _, right = term.partition(".")
    count = rank - len(left) - len(right)
    return [*left, *(f".{count - k}" for k in range(count)), *right]


@rule("Attention")
def _attention(c: Call) -> Sequence[Mark]:
    """Queries along time; keys and values are there at every step."""
    op, mask = c.operator, c.given(3)
    if c.time.axis != len(c.shape()) - 2:
        c.refuse("joins each row with keys for its position", whole=True)
    if op.is_causal or max(op.left_window_size, op.right_window_size) >= 0:
        c.refuse("masks each step by its position", whole=True)
    if mask is not None and len(mask.type.sizes) > 1 and mask.type.sizes[-2] != 1:
        c.refuse("masks each step by its position", whole=True)
    return [c.time, Kind.STATIC, Kind.STATIC, c.time.at(2)]


@rule("LayerNormalization")
def _layer_normalization(c: Call) -> Mark:
    rank = len(c.shape())
    if c.time.axis >= axis_of(c.operator.axis, rank):
        c.refuse("normalises over time", whole=True)
        return c.time
    return aligned(c, range(len(c.inputs)), rank)


@rule("BatchNormalization")
def _batch_normalization(c: Call) -> Mark:
    if c.time.axis == 1:
        c.refuse("scales each step by a value for its position")
    return c.time


@rule("InstanceNormalization")
def _instance_normalization(c: Call) -> Mark:
    if c.time.axis != 0:
        c.refuse("normalises over time", whole=True)
    return c.time


@rule("Softmax", "LogSoftmax")
def _softmax(c: Call) -> Mark:
    if c.time.axis == axis_of(c.operator.axis, len(c.result)):
        c.refuse("normalises over time", whole=True)
    return c.time


@rule(*REDUCTIONS)
def _reduction(c: Call) -> Mark:
    axes = [] if c.given(1) is None else c.values(1)
    rank = len(c.shape())
    if axes is None:
        c.refuse("reduces axes that are not known before it runs", whole=True)
        return Kind.REFUSED
    if not axes and not c.operator.noop_with_empty_axes:
        axes = list(range(rank))
    return _reduced(c, axes_of(axes, rank))


@rule("ArgMax", "ArgMin")
def _arg_reduction(c: Call) -> Mark:
    return _reduced(c, [axis_of(c.operator.axis, len(c.shape()))])


def _reduced(c: Call, axes: Sequence[int]) -> Mark:
    if c.time.axis in axes:
        return _summed(c, "reduces")
    if c.operator.keepdims:
        return c.time
    return c.time.at(c.time.axis - sum(axis < c.time.axis for axis in axes))


@rule("CumSum")
def _cumulative(c: Call) -> Mark:
    axis = c.values(1)
    if axis is None or axis_of(axis[0], len(c.result)) == c.time.axis:
        c.refuse("sums up from the first step on")
    return c.time


@rule("TopK")
def _top(c: Call) -> Mark:
    if axis_of(c.operator.axis, len(c.result)) == c.time.axis:
        return _summed(c, "selects")
    return c.time


@rule("Conv", "ConvTranspose")
def _convolution(c: Call) -> Mark:
    return _summed(c) if c.time.axis == 1 else _windowed(c, c.shape(1)[2:])


@rule("MaxPool", "AveragePool")
def _pool(c: Call) -> Mark:
    if any(c.node.outputs[1:]):
        c.refuse("counts places over all steps", whole=True)
    return _windowed(c, c.operator.kernel_shape)


def _windowed(c: Call, kernel: Sequence[int]) -> Mark:
    k = c.time.axis - 2
    if k < 0:
        return c.time
    stride = c.operator.strides[k] if c.operator.strides else 1
    if (kernel[k], stride) != (1, 1):
        c.refuse(f"has windows of {kernel[k]} over time, {stride} apart")
    elif c.result[k + 2] != c.shape()[k + 2]:
        c.refuse("pads time")
    return c.time


@rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(c: Call) -> Mark:
    return _summed(c, "pools") if c.time.axis >= 2 else c.time
