"""Packed sequences while a torch module is traced: data stays padded, lengths travel beside it.

`pack_padded_sequence` sorts its rows by length and every result is unsorted again. Both
permutations are followed here and cancelled, so that an exported model neither sorts nor gathers;
a permuted tensor that is used in any other way is really permuted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightrnn.errors import UnsupportedError

_QUERIES = ("dim", "size", "__get__", "stride", "is_floating_point", "numel", "device")
"""What may be asked of packed data without computing on it."""

_POSITIONWISE = (
    "linear", "embedding", "dropout", "relu", "tanh", "sigmoid", "gelu", "layer_norm", "leaky_relu",
    "silu", "elu", "softplus", "hardtanh", "to", "float", "detach", "clone", "contiguous",
)  # fmt: skip
"""Functions that treat every step of a sequence alike, which may be applied to packed data."""

_ELEMENTWISE = (
    "add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "truediv", "div", "neg",
)  # fmt: skip
"""Functions of several tensors, element by element."""


@dataclass(frozen=True)
class _Packed:
    """Padded data [T, N, ...] that stands for packed data; rows in their original order.

    lengths: int64 [N]. order: the permutation that torch believes the rows are in, or None.
    zeroed: whether x is zero beyond the lengths.
    """

    x: Any
    lengths: Any
    order: Any
    zeroed: bool = False


@dataclass(frozen=True)
class _Permuted:
    """A tensor that torch believes to be `source.index_select(axis, order)`."""

    source: Any
    axis: int
    order: Any


class _Longest(int):
    """Stands for the longest length, which is not known while tracing; above no total_length."""

    def __gt__(self, other: object) -> bool:
        return False


class _Batch:
    """Stands for an input whose batch, on either axis, is known."""

    def __init__(self, size: Any) -> None:
        self._size = size

    def size(self, axis: int) -> Any:
        return self._size


class _Tags:
    """Values by tensor identity; tensors are kept alive, so that no identity is used twice."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[Any, Any]] = {}

    def set(self, tensor: Any, value: Any) -> None:
        self._items[id(tensor)] = (tensor, value)

    def get(self, tensor: Any) -> Any:
        return self._items.get(id(tensor), (None, None))[1]


class PackedSequences:
    """Follows packed sequences through one trace. unpad: the operator that trims to the longest."""

    def __init__(self, unpad: Callable[..., Any]) -> None:
        self._unpad = unpad
        self._copies = _Tags()  # copy of a permutation to a device or type -> permutation
        self._sorted = _Tags()  # sorted lengths -> _Permuted
        self._selected = _Tags()  # result of index_select -> _Permuted
        self._inverse = _Tags()  # inverse permutation -> permutation
        self._unsorted = _Tags()  # result in original order -> _Permuted
        self._data = _Tags()  # packed data -> _Packed
        self._batch_sizes = _Tags()  # batch sizes -> _Packed

    def is_packed(self, batch_sizes: Any) -> bool:
        return self._batch_sizes.get(batch_sizes) is not None

    def symbolic_batch(self, expected: Callable[..., Any]) -> Callable[..., Any]:
        """`RNNBase.get_expected_hidden_size` with a symbolic batch for packed sequences."""

        def sizes(module: Any, x: Any, batch_sizes: Any) -> Any:
            packed = self._batch_sizes.get(batch_sizes)
            if packed is None:
                return expected(module, x, batch_sizes)
            return expected(module, _Batch(packed.x.shape[1]), None)

        return sizes

    def call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """A torch function other than a recurrent layer, called while tracing."""
        name = getattr(function, "__name__", "")
        handler = getattr(self, f"_on_{name.strip('_')}", None)
        if handler is not None:
            result = handler(function, args, kwargs)
            if result is not NotImplemented:
                return result
        leaves = _leaves((args, kwargs))
        if any(self._data.get(leaf) is not None for leaf in leaves):
            return self._on_data(name, function, args, kwargs)
        if name not in _QUERIES and any(self.is_packed(leaf) for leaf in leaves):
            raise UnsupportedError(f"torch function {name!r} on the batch_sizes of packed data")
        args, kwargs = self._really_permuted((args, kwargs))
        return function(*args, **kwargs)

    def recurrent(self, call: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, ...]:
        """A call with packing: (data, batch_sizes, h or (h, c), params, biases, layers, ...)."""
        data, _, states, params, has_biases, layers, _, _, bidirectional = args
        packed = self._data.get(data)
        states = tuple(states) if isinstance(states, list | tuple) else (states,)
        states = tuple(self._original_order(s, packed.order) for s in states)
        y, *finals = call(
            packed.x, *states, list(params), packed.lengths, has_biases, layers, bidirectional
        )
        self._data.set(y, _Packed(y, packed.lengths, packed.order, zeroed=True))
        for final in finals:
            self._mark_unsorted(final, 1, packed.order)
        return y, *finals

    def _original_order(self, tensor: Any, order: Any) -> Any:
        if order is None:
            return tensor
        found = self._selected.get(tensor)
        if found is not None and found.order is order:
            return found.source
        return tensor.index_select(1, _inverted(order))

    def _index(self, tensor: Any) -> Any:
        """The tensor of which this one is a copy."""
        source = self._copies.get(tensor)
        return tensor if source is None else source

    def _undoes(self, index: Any, order: Any) -> bool:
        """Whether an index is the inverse of a permutation."""
        return self._inverse.get(self._index(index)) is order

    def _mark_unsorted(self, tensor: Any, axis: int, order: Any) -> None:
        if order is not None:
            self._unsorted.set(tensor, _Permuted(tensor, axis, order))

    def _really_permuted(self, values: Any) -> Any:
        def permuted(leaf: Any) -> Any:
            found = self._unsorted.get(leaf)
            return leaf if found is None else leaf.index_select(found.axis, found.order)

        import torch

        if all(self._unsorted.get(leaf) is None for leaf in _leaves(values)):
            return values
        return torch.utils._pytree.tree_map(permuted, values)

    def _on_sort(self, function: Any, args: Any, kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if args[0].dim() == 1:
            self._sorted.set(result[0], _Permuted(args[0], 0, result[1]))
        return result

    def _on_to(self, function: Any, args: Any, kwargs: Any) -> Any:
        result = function(*self._really_permuted(args), **kwargs)
        self._copies.set(result, self._index(args[0]))
        return result

    _on_cpu = _on_to

    def _on_index_select(self, function: Any, args: Any, kwargs: Any) -> Any:
        if kwargs or len(args) != 3:
            return NotImplemented
        source, axis, index = args
        cancelled = self._unsorted.get(source)
        if cancelled is not None and self._undoes(index, cancelled.order):
            return _alias(source) if cancelled.axis == axis else NotImplemented
        result = function(*self._really_permuted(args))
        self._selected.set(result, _Permuted(source, axis, self._index(index)))
        return result

    def _on_scatter(self, function: Any, args: Any, kwargs: Any) -> Any:
        """`invert_permutation` fills an empty tensor with 0, 1, ... by the permutation."""
        if len(args) != 4 or args[0].dim() != 1:
            return NotImplemented
        result = function(*args, **kwargs)
        self._inverse.set(args[0], self._index(args[2]))
        return result

    def _on_getitem(self, function: Any, args: Any, kwargs: Any) -> Any:
        source, index = args
        packed = self._batch_sizes.get(source)
        if packed is not None:
            if index != 0:
                raise UnsupportedError("batch_sizes of a packed sequence beyond the first")
            return packed.x.shape[1]
        found = self._unsorted.get(source)
        if found is not None and self._undoes(index, found.order):
            return _alias(source)
        return NotImplemented

    def _on_size(self, function: Any, args: Any, kwargs: Any) -> Any:
        if self._batch_sizes.get(args[0]) is not None:
            return _Longest(0)
        return NotImplemented

    def _on_dim(self, function: Any, args: Any, kwargs: Any) -> Any:
        packed = self._data.get(args[0])
        return NotImplemented if packed is None else args[0].dim() - 1

    def _on_data(self, name: str, function: Any, args: Any, kwargs: Any) -> Any:
        """A function of packed data, which computes on the padded data that stands for it."""
        if name in _QUERIES:
            return function(*args, **kwargs)
        leaves = [leaf for leaf in _leaves((args, kwargs)) if hasattr(leaf, "dim")]
        found = [p for leaf in leaves if (p := self._data.get(leaf)) is not None]
        others = [leaf for leaf in leaves if self._data.get(leaf) is None]
        alike = all(p.lengths is found[0].lengths and p.order is found[0].order for p in found)
        if name in _ELEMENTWISE:
            # what is added to each element or to each feature is, whatever the steps are
            alike = alike and all(leaf.dim() < 2 for leaf in others)
        elif name not in _POSITIONWISE:
            alike = False
        if not alike:
            raise UnsupportedError(
                f"torch function {name!r} on packed data; unpack it with pad_packed_sequence first"
            )
        result = function(*args, **kwargs)
        self._data.set(result, _Packed(result, found[0].lengths, found[0].order))
        return result

    def _on_embedding(self, function: Any, args: Any, kwargs: Any) -> Any:
        packed = self._data.get(args[1]) if len(args) > 1 else None
        packed = self._data.get(args[0]) if packed is None else packed
        if packed is None:
            return NotImplemented
        result = function(*args, **kwargs)
        self._data.set(result, _Packed(result, packed.lengths, packed.order))
        return result

    def _on_pack_padded_sequence(self, function: Any, args: Any, kwargs: Any) -> Any:
        import torch

        x, lengths, batch_first = args
        rows, order = self._selected.get(x), None
        row_lengths = self._sorted.get(lengths)
        if rows is not None and row_lengths is not None and rows.order is row_lengths.order:
            x, lengths, order = rows.source, row_lengths.source, rows.order
        x = x.transpose(0, 1) if batch_first else x
        x = _alias(x)
        packed = _Packed(x, lengths, order)
        batch_sizes = torch.zeros(1, dtype=torch.int64)
        self._data.set(x, packed)
        self._batch_sizes.set(batch_sizes, packed)
        return x, batch_sizes

    def _on_pad_packed_sequence(self, function: Any, args: Any, kwargs: Any) -> Any:
        data, _, batch_first, padding_value, total = args
        packed = self._data.get(data)
        y, lengths = packed.x, packed.lengths
        has_total = not isinstance(total, _Longest)
        if has_total and not _surely_equal(total, y.shape[0]):
            y, within = _resized(y, total), _checked(lengths, total)
            y = _padded(y, within, padding_value)
        elif not packed.zeroed or padding_value != 0:
            y = _padded(y, lengths, padding_value)
        if not has_total:
            y = self._unpad(y, lengths)
        y = y.transpose(0, 1) if batch_first else _alias(y)
        lengths = _alias(lengths)
        self._mark_unsorted(y, 0 if batch_first else 1, packed.order)
        self._mark_unsorted(lengths, 0, packed.order)
        return y, lengths


def _leaves(values: Any) -> list[Any]:
    import torch

    found: list[Any] = torch.utils._pytree.tree_leaves(values)
    return found


def _surely_equal(a: Any, b: Any) -> bool:
    """Whether two sizes are equal whatever the sizes of the inputs are."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return bool(statically_known_true(a == b))


def _resized(y: Any, total: Any) -> Any:
    """y [T, N, ...] with zeros after its end, or without its last steps, as [total, N, ...]."""
    import torch

    return torch.cat((y, y.new_zeros(total, *y.shape[1:])))[:total]


def _checked(lengths: Any, most: Any) -> Any:
    """The lengths, read from a list of all that are allowed: a longer one is out of its range."""
    import torch

    return torch.arange(most + 1, dtype=lengths.dtype)[lengths]


def _inverted(order: Any) -> Any:
    import torch

    return torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0]))


def _alias(tensor: Any) -> Any:
    """The same tensor under a new identity."""
    import torch

    return torch.ops.aten.alias.default(tensor)


def _padded(y: Any, lengths: Any, value: float) -> Any:
    """y [T, N, ...] with `value` beyond the lengths."""
    import torch

    inside = torch.arange(y.shape[0])[:, None] < lengths
    inside = inside[(...,) + (None,) * (y.dim() - 2)]
    return torch.where(inside, y, torch.full((), value, dtype=y.dtype))
