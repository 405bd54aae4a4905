"""The tensors inside an exported torch program, by the names that they have in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError
from lightrnn.graph import Array
from lightrnn_converters.optional import require
from lightrnn_converters.torch_recurrent import operators
from lightrnn_converters.verify import ReferenceFailedError


class TorchTensors:
    """Runs a program node by node, recurrent layers that were kept whole by torch's own kernels.

    program: the ExportedProgram that was translated, decompositions done: then a node's name is
    that of its tensor in the ONNX model.
    inputs, outputs: names of the tensors among its inputs and its outputs, in order.
    """

    def __init__(self, program: Any, inputs: Sequence[str], outputs: Sequence[str] = ()) -> None:
        if program is None:
            raise ConversionError("torch has not kept the program that it translated")
        self._module = program.module()
        self._inputs, self._outputs = list(inputs), list(outputs)

    def __call__(self, feeds: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        """Values of those of the names that the program has.

        Raises ReferenceFailedError where it does not run on these inputs.
        """
        torch = require("torch")
        tensors = [torch.from_numpy(np.array(feeds[name])) for name in self._inputs]
        try:
            with torch.no_grad():
                found = _interpreted(self._module, tensors, self._outputs)
        except Exception as error:  # whatever an operator of the program raises
            raise ReferenceFailedError(f"{type(error).__name__}: {error}") from None
        return {name: found[name].detach().cpu().numpy() for name in names if name in found}


def _interpreted(module: Any, tensors: Sequence[Any], outputs: Sequence[str]) -> dict[str, Any]:
    """Tensors of all nodes by name, and of what the program returns by these names."""
    from torch import Tensor
    from torch.fx import Interpreter
    from torch.utils._pytree import tree_leaves

    kept = _kept_layers()
    found: dict[str, Any] = {}

    class Recorder(Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            result = super().run_node(node)
            if isinstance(result, Tensor):
                found[node.name] = result
            return result

        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            return kept.get(target, target)(*args, **kwargs)

        def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
            return None  # guards of the example's sizes

    returned = Recorder(module).run(*tensors, enable_io_processing=False)
    results = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor)]
    if len(results) == len(outputs):
        found.update(zip(outputs, results, strict=True))
    return found


def _kept_layers() -> dict[Any, Callable[..., Any]]:
    """What the operators of `torch_recurrent` stand for, on tensors."""
    torch = require("torch")
    ops, functions = operators(), torch._VF

    def lstm(x: Any, h: Any, c: Any, *rest: Any) -> Any:
        return _layer(functions.lstm, x, (h, c), *rest)

    def gru(x: Any, h: Any, *rest: Any) -> Any:
        return _layer(functions.gru, x, (h,), *rest)

    def rnn(x: Any, h: Any, *rest: Any) -> Any:
        *others, relu = rest
        return _layer(functions.rnn_relu if relu else functions.rnn_tanh, x, (h,), *others)

    def unpad(y: Any, lengths: Any) -> Any:
        return y[: int(lengths.max())]

    return {
        ops.lstm.default: lstm, ops.gru.default: gru, ops.rnn.default: rnn,
        ops.unpad.default: unpad,
    }  # fmt: skip


def _layer(
    call: Any, x: Any, states: Sequence[Any], params: Any, lengths: Any, biases: bool, layers: int,
    bidirectional: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """(y, final states) of a layer, its rows as long as `lengths` says where it is given."""
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

    options = (biases, layers, 0.0, False, bidirectional)
    if lengths is None:
        hx = states if len(states) > 1 else states[0]
        return tuple(call(x, hx, list(params), *options, False))
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    sorted_, back = packed.sorted_indices, packed.unsorted_indices
    given = [s.index_select(1, sorted_) for s in states]
    hx = tuple(given) if len(given) > 1 else given[0]
    data, *finals = call(packed.data, packed.batch_sizes, hx, list(params), *options)
    y = PackedSequence(data, packed.batch_sizes, sorted_, back)
    padded, _ = pad_packed_sequence(y, total_length=x.shape[0])
    return padded, *(s.index_select(1, back) for s in finals)
