"""The same modules through torch's own ONNX exporters, without lightrnn's help."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import pytest
import torch
from lightrnn_converters import convert_onnx
from lightrnn_converters.torch_export import quiet

import lightrnn
from tests.models import ALL, LAYERS, Example
from tests.torch_conversion import assert_agrees, feeds, inputs, wanted

PLAIN = [e for e in ALL if e.plain and "proj_size" not in e.name]
"""Both exporters write LSTMs with a projection wrongly or not at all."""

STEPS = {e.name for e in LAYERS if "batch_first" not in e.name}
"""Where steps come first, the exporter fixes their number at the example's."""

HEADS = {"self attention", "cross attention"}
"""The old exporter fixes the sizes of nn.MultiheadAttention at the example's."""


def _varying(example: Example) -> list[list[int]]:
    """The axes of each input whose size is not the same at all of the example's sizes."""
    shapes = [[a.shape for a in inputs(example, k)] for k in range(len(example.sizes))]
    return [
        [axis for axis, sizes in enumerate(zip(*given, strict=True)) if len(set(sizes)) > 1]
        for given in zip(*shapes, strict=True)
    ]


def _new_export(example: Example, file: io.BytesIO) -> None:
    shapes = tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in _varying(example))
    torch.onnx.export(
        example.module(), inputs(example, 0), file,
        dynamo=True, dynamic_shapes=shapes, verbose=False,
    )  # fmt: skip


def _old_export(example: Example, file: io.BytesIO) -> None:
    axes = {f"x{k}": {d: f"x{k}_{d}" for d in axes} for k, axes in enumerate(_varying(example))}
    torch.onnx.export(
        example.module(), inputs(example, 0), file,
        dynamo=False, dynamic_axes=axes, input_names=list(axes),
    )  # fmt: skip


@cache
def _converted(export: Any, example: Example) -> lightrnn.Model:
    source, target = io.BytesIO(), io.BytesIO()
    with quiet():
        export(example, source)
    convert_onnx(source.getvalue(), target)
    return lightrnn.load(target.getvalue())


def _assert_agrees(example: Example, model: lightrnn.Model, arguments: Any) -> None:
    found = model.run(feeds(model, arguments))
    assert_agrees(found, wanted(example.module(), arguments))


@pytest.mark.parametrize("example", [pytest.param(e, id=e.name) for e in PLAIN])
def test_plain_export_gives_the_same_results(example: Example) -> None:
    model = _converted(_new_export, example)
    torch.manual_seed(5)
    for batch, steps in example.sizes[1:]:
        if example.name in STEPS:
            steps = example.sizes[0][1]
        _assert_agrees(example, model, example.make_inputs(batch, steps))


@pytest.mark.parametrize(
    "example", [pytest.param(e, id=e.name) for e in PLAIN if e.name not in HEADS]
)
def test_old_exporter_gives_the_same_results(example: Example) -> None:
    model = _converted(_old_export, example)
    for number in range(1, len(example.sizes)):
        _assert_agrees(example, model, inputs(example, number))


@pytest.mark.native
@pytest.mark.parametrize(
    "example", [pytest.param(e, id=e.name) for e in PLAIN if e.name not in HEADS]
)
def test_old_export_runs_in_one_native_call(example: Example) -> None:
    model = _converted(_old_export, example)
    for number in (1, 2):
        arrays = feeds(model, inputs(example, number))
        plan = model.plan({name: a.shape for name, a in arrays.items()})
        assert plan.host_steps == ()
        assert plan.native_calls == 1
