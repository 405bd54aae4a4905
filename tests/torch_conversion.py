"""Convert torch modules in memory, and compare what runs with the module."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from lightrnn_converters import convert_torch
from torch import nn
from torch.onnx._internal.exporter import _registration

import lightrnn
from lightrnn.graph import Array
from tests.models import Example

# The exporter parses the source of all its translations anew at every export: half of its time.
_registration.onnxscript_apis.get_torchlib_ops = cache(
    _registration.onnxscript_apis.get_torchlib_ops
)

ATOL = 1e-5
"""How far outputs of about 1 may be from the module's."""


def convert(module: nn.Module, inputs: Any, **options: Any) -> lightrnn.Model:
    """The converted module, loaded."""
    target = io.BytesIO()
    convert_torch(module, inputs, target, **options)
    return lightrnn.load(target.getvalue())


@cache
def converted(example: Example) -> lightrnn.Model:
    """An example, converted once for all tests."""
    return convert(example.module(), inputs(example, 0), **example.options)


def inputs(example: Example, number: int) -> Any:
    """What an example is called with at one of its sizes, always the same."""
    torch.manual_seed(number + 1)
    return example.make_inputs(*example.sizes[number])


def feeds(model: lightrnn.Model, arguments: Any) -> dict[str, Array]:
    """A model's inputs by name: tensors, and lists of numbers, in the order of the arguments."""
    leaves = torch.utils._pytree.tree_leaves(arguments, lambda a: type(a) is list)
    arrays = [np.asarray(leaf) for leaf in leaves]
    return dict(zip((i.name for i in model.inputs), arrays, strict=True))


def wanted(module: nn.Module, arguments: Any) -> list[Array]:
    """What a module in evaluation mode returns, tensor by tensor."""
    with torch.no_grad():
        results = module(**arguments) if isinstance(arguments, Mapping) else module(*arguments)
    leaves = torch.utils._pytree.tree_leaves(results)
    return [np.asarray(leaf) for leaf in leaves if leaf is not None]


def assert_agrees(
    found: Mapping[str, Array], expected: Sequence[Array], atol: float = ATOL
) -> None:
    """Outputs in order have the expected shapes, dtypes and values."""
    assert len(found) == len(expected)
    for (name, array), want in zip(found.items(), expected, strict=True):
        assert array.dtype == want.dtype, name
        assert array.shape == want.shape, name
        np.testing.assert_allclose(array, want, rtol=0, atol=atol, err_msg=name)
