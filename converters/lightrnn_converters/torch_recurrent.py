"""torch's recurrent layers and cells as single nodes of an exported program.

Under `KeepRecurrent`, a TorchFunctionMode, every call of torch's `lstm`, `gru`, `rnn_tanh`,
`rnn_relu` and of their cells becomes one custom operator of the library "lightrnn" whose shape
function keeps time and batch symbolic:

    lightrnn::lstm(x, h0, c0, params, lengths, ...) -> y, h_n, c_n
    lightrnn::gru, lightrnn::rnn(x, h0, params, lengths, ...) -> y, h_n

x [T, N, I]; h0 [L * D, N, S]; params as torch's flat weights; lengths int64 [N] or None.
Packed sequences (`torch.nn.utils.rnn`) stay padded and carry their lengths beside them; see
`torch_packed`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from lightrnn.errors import UnsupportedError
from lightrnn_converters.torch_packed import PackedSequences
from lightrnn_converters.torch_rewrites import embedding_bag

_COMMON = "Tensor[] params, Tensor? lengths, bool has_biases, int num_layers, bool bidirectional"
_SCHEMAS = {
    "lstm": f"lstm(Tensor x, Tensor h0, Tensor c0, {_COMMON}) -> (Tensor, Tensor, Tensor)",
    "gru": f"gru(Tensor x, Tensor h0, {_COMMON}) -> (Tensor, Tensor)",
    "rnn": f"rnn(Tensor x, Tensor h0, {_COMMON}, bool relu) -> (Tensor, Tensor)",
    "unpad": "unpad(Tensor y, Tensor lengths) -> Tensor",
}


def _fake_lstm(x: Any, h0: Any, c0: Any, params: Any, *rest: Any) -> tuple[Any, Any, Any]:
    y, h_n = _fake_recurrent(x, h0, params, *rest)
    wanted = (h0.shape[0], x.shape[1], params[1].shape[0] // 4)
    _require("initial cell state", c0.shape, wanted)
    return y, h_n, x.new_empty(wanted)


def _fake_recurrent(
    x: Any, h0: Any, params: Any, lengths: Any, has_biases: bool, num_layers: int,
    bidirectional: bool, relu: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    directions = 2 if bidirectional else 1
    time, batch, size = x.shape[0], x.shape[1], params[1].shape[1]
    _require("input", x.shape, (time, batch, params[0].shape[1]))
    _require("initial state", h0.shape, (num_layers * directions, batch, size))
    if lengths is not None:
        _require("lengths", lengths.shape, (batch,))
    y = x.new_empty(time, batch, directions * size)
    return y, x.new_empty(num_layers * directions, batch, size)


def _require(what: str, found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Make sizes equal, those that are still free included.

    A size that is computed from others is left alone: torch may not be able to solve for them.
    """
    if len(found) != len(wanted) or any(
        a != b for a, b in zip(found, wanted, strict=True) if _is_plain(a) and _is_plain(b)
    ):
        raise UnsupportedError(f"{what} of shape {list(found)}, expected {list(wanted)}")


def _is_plain(size: Any) -> bool:
    return isinstance(size, int) or bool(size.node.expr.is_Symbol or size.node.expr.is_number)


def _fake_unpad(y: Any, lengths: Any) -> Any:
    import torch

    longest = torch.library.get_ctx().new_dynamic_size()
    return y.new_empty(longest, *y.shape[1:])


@functools.cache
def operators() -> Any:
    """The operators `torch.ops.lightrnn`, registered on the first call."""
    import torch

    library = torch.library.Library("lightrnn", "DEF")
    for schema in _SCHEMAS.values():
        library.define(schema)
    shapes: Mapping[str, Callable[..., Any]] = {
        "lstm": _fake_lstm, "gru": _fake_recurrent, "rnn": _fake_recurrent, "unpad": _fake_unpad,
    }  # fmt: skip
    for name, shape in shapes.items():
        torch.library.register_fake(f"lightrnn::{name}", shape, lib=library)
    operators_ = torch.ops.lightrnn
    operators_.library = library
    return operators_


def _plain(call: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, ...]:
    """A call without packing: (x, h or (h, c), params, biases, layers, _, _, bi, first)."""
    x, states, params, has_biases, layers, _, _, bidirectional, batch_first = args
    x = x.transpose(0, 1) if batch_first else x
    states = tuple(states) if isinstance(states, list | tuple) else (states,)
    y, *finals = call(x, *states, list(params), None, has_biases, layers, bidirectional)
    return y.transpose(0, 1) if batch_first else y, *finals


def _cell(call: Callable[..., Any], args: Sequence[Any]) -> Any:
    """A cell: (x [N, I], h [N, S] or (h, c), W, R, biases or None), as a layer of one step."""
    x, states, *params = args
    given = tuple(states) if isinstance(states, list | tuple) else (states,)
    params = [p for p in params if p is not None]
    starts = [s.unsqueeze(0) for s in given]
    _, *finals = call(x.unsqueeze(0), *starts, params, None, len(params) > 2, 1, False)
    after = tuple(f.squeeze(0) for f in finals)
    return after if isinstance(states, list | tuple) else after[0]


@contextmanager
def keep_recurrent() -> Iterator[None]:
    """Within this context, torch.export keeps every recurrent layer as one node.

    Raises UnsupportedError from inside the model for what cannot be kept: other computations on
    the data of a packed sequence than those `torch_packed` names.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    ops = operators()
    packed = PackedSequences(ops.unpad)
    calls: dict[str, Callable[..., Any]] = {
        "lstm": ops.lstm,
        "gru": ops.gru,
        "rnn_tanh": functools.partial(ops.rnn, relu=False),
        "rnn_relu": functools.partial(ops.rnn, relu=True),
    }
    functions = torch._C._VariableFunctions
    recurrent = {getattr(functions, name): call for name, call in calls.items()}
    cells = {getattr(functions, f"{name}_cell"): call for name, call in calls.items()}

    class KeepRecurrent(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            call, kwargs = recurrent.get(function), kwargs or {}
            if function is torch.nn.functional.embedding_bag:
                with self:
                    result = embedding_bag(*args, **kwargs)
                if result is not NotImplemented:
                    return result
            if function in cells and not kwargs:
                return _cell(cells[function], args)
            if call is None:
                return packed.call(function, args, kwargs)
            if packed.is_packed(args[1]):
                return packed.recurrent(call, args)
            return _plain(call, args)

    expected = torch.nn.RNNBase.get_expected_hidden_size
    expected_cell = torch.nn.LSTM.get_expected_cell_size
    with (
        mock.patch.object(
            torch.nn.RNNBase, "get_expected_hidden_size", packed.symbolic_batch(expected)
        ),
        mock.patch.object(
            torch.nn.LSTM, "get_expected_cell_size", packed.symbolic_batch(expected_cell)
        ),
        KeepRecurrent(),
    ):
        yield
