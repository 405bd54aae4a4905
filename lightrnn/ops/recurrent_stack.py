"""Recurrent layers one upon the other: which run side by side, and in chunks of how many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from lightrnn.ops.lowering import Emitter
from lightrnn.ops.recurrent_lowering import Layer, LayerCalls, lower_layer

_CHUNKS, _ROWS = 8, 24
"""Layers side by side: the most chunks of a sequence, and rows of one, or a multiple of those."""
_ENOUGH_ROWS = 8
"""Rows of a batch that threads share out in one layer, without waiting for each other."""
_MOST_PRODUCTS = 1 << 17
"""Multiply-adds by R of a step above which threads do better to share out a layer's units."""
GPU_LAYERS = 8
"""Layers that run side by side on a GPU at most."""
_GPU_LAUNCH_STEPS = 4
"""Steps of a layer that take as long on a GPU as beginning and ending a chunk of them."""
_GPU_WEIGHTS = 12 << 20
"""Bytes of R in float32, as blocks keep it, of layers that run side by side there."""
_GPU_ROWS = 8
"""Rows of a batch above which such layers are bound by arithmetic."""


def reads_alone(layer: Layer, below: Sequence[Layer]) -> bool:
    """Whether a layer needs nothing of those below but Y of the last, each step before its own."""
    x, y, slots = layer.slots.x, below[-1].slots.y, layer.slots
    if y is None or x.ref != y.ref or layer.slots.table is not None:
        return False
    if any(one.directions > 1 or one.reverse or one.layout for one in (layer, below[-1])):
        return False
    made = {o.ref.base for one in below for o in one.slots.outputs if o is not None}
    given = {o.ref.base for o in (slots.lengths, slots.h0, slots.c0) if o is not None}
    time, _, batch, size = y.shape
    return x.shape == (time, batch, size) and made.isdisjoint(given)


def lower_layers(emit: Emitter, layers: Sequence[Layer], enter: Callable[[int], None]) -> None:
    """Emit layers of which each `reads_alone` those below, side by side where that is quicker.

    A layer is then a chunk of steps behind the one below. enter: called with a layer's number
    before its calls.
    """
    most = len(layers) if emit.target == "cpu" else _most_on_gpu(layers[0])
    for first in range(0, len(layers), most):
        _lower_abreast(emit, layers[first : first + most], first, enter)


def _lower_abreast(
    emit: Emitter, layers: Sequence[Layer], first: int, enter: Callable[[int], None]
) -> None:
    """Emit layers, numbered from `first` on, side by side if all of them are quicker so."""
    time = layers[0].time
    chunk = _steps_abreast(layers) if emit.target == "cpu" else _steps_abreast_on_gpu(layers)
    if chunk >= time:
        for k, layer in enumerate(layers):
            enter(first + k)
            lower_layer(emit, layer)
        return
    chunks = -(-time // chunk)
    calls = [LayerCalls(emit, layer, chunk) for layer in layers]

    def emit_chunk(k: int, start: int) -> None:
        enter(first + k)
        calls[k].emit(start)

    for wave in range(chunks + len(layers) - 1):
        emit.side_by_side(
            [
                partial(emit_chunk, k, (wave - k) * chunk)
                for k in range(len(layers))
                if 0 <= wave - k < chunks
            ]
        )


def _steps_abreast(layers: Sequence[Layer]) -> int:
    """Steps of a chunk of layers side by side on threads; all where those gain nothing by it."""
    time, batch = layers[0].time, max(layers[0].batch, 1)
    least = -(-_ROWS // batch)
    products = max(batch * layer.width * layer.size for layer in layers)
    if len(layers) < 2 or batch >= _ENOUGH_ROWS or products > _MOST_PRODUCTS or time < 3 * least:
        return time
    return -(-time // (_CHUNKS * least)) * least


def _most_on_gpu(layer: Layer) -> int:
    """Layers like this one whose R blocks can keep at once; at least one."""
    return max(_GPU_WEIGHTS // max(layer.gates * layer.hidden * layer.size * 4, 1), 1)


def _steps_abreast_on_gpu(layers: Sequence[Layer]) -> int:
    """The same on a GPU, where one launch does a chunk of all layers: n chunks take as long as
    n + layers - 1 of time / n + _GPU_LAUNCH_STEPS steps."""
    first, more = layers[0], len(layers) - 1
    time = first.time
    alike = all((one.kernel, one.hidden) == (first.kernel, first.hidden) for one in layers)
    apart = any(one.slots.projection or (one.kernel == "gru" and not one.after) for one in layers)
    if not more or not alike or apart or first.batch > _GPU_ROWS:
        return time
    chunks = max(round((more * time / _GPU_LAUNCH_STEPS) ** 0.5), 2)
    chunk = -(-time // chunks)
    abreast = (chunks + more) * (chunk + _GPU_LAUNCH_STEPS)
    return chunk if abreast < (more + 1) * (time + _GPU_LAUNCH_STEPS) else time
