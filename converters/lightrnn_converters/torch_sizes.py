"""Which sizes of a torch module's inputs may vary: found by running the module at others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lightrnn.errors import ConversionError
from lightrnn.graph import Array, Graph
from lightrnn_converters.feeds import fill
from lightrnn_converters.optional import first_line, require
from lightrnn_converters.verify import ReferenceFailedError

Trial: TypeAlias = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Inputs, and the outputs wanted for them."""

_MADE_UP = re.compile(r"[su]\d+")
"""Names that torch gives to sizes."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a program's inputs.

    dims: for each input a number or an expression of symbols (sympy) for each axis.
    example: the value of each symbol in the example.
    """

    dims: Mapping[str, tuple[Any, ...]]
    example: Mapping[Any, int]

    def shapes(self, changed: Mapping[Any, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of all inputs: the example's, with other values for some symbols."""
        values = {**self.example, **changed}
        return {
            name: tuple(d if isinstance(d, int) else int(d.xreplace(values)) for d in dims)
            for name, dims in self.dims.items()
        }

    def replaced(self, values: Mapping[Any, Any]) -> Sizes:
        """The sizes with other symbols, or numbers, for some symbols."""
        dims = {n: tuple(_replaced(d, values) for d in dims) for n, dims in self.dims.items()}
        return Sizes(dims, {s: v for s, v in self.example.items() if s not in values})

    def declare(self, proto: Any) -> None:
        """Write the sizes of a model's inputs; symbols are called after their first place."""
        sympy = require("sympy")
        names: dict[Any, Any] = {}
        inputs = {i.name: i.type.tensor_type.shape.dim for i in proto.graph.input}
        for name, dims in self.dims.items():
            for axis, (dim, given) in enumerate(zip(dims, inputs[name], strict=True)):
                if not isinstance(dim, int) and dim.is_Symbol:
                    known = given.dim_param
                    own = known if known and not _MADE_UP.fullmatch(known) else f"{name}_{axis}"
                    names.setdefault(dim, sympy.Symbol(own))
        for name, dims in self.dims.items():
            for dim, given in zip(dims, inputs[name], strict=True):
                if isinstance(dim, int):
                    given.dim_value = dim
                else:
                    given.dim_param = str(dim.xreplace(names))


def _replaced(dim: Any, values: Mapping[Any, Any]) -> Any:
    return dim if isinstance(dim, int) else _number_or_expression(dim.xreplace(values))


def _number_or_expression(value: Any) -> Any:
    return int(value) if value.is_number else value


def sizes_of(program: Any, names: Sequence[str]) -> Sizes:
    """The sizes of an exported program's inputs, called by these names."""
    sympy = require("sympy")
    specs = [s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    users = {getattr(s.arg, "name", None) for s in specs}
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in users]
    tensors = [n.meta["val"] for n in nodes if hasattr(n.meta.get("val"), "shape")]
    dims = {n: tuple(map(_dim, t.shape)) for n, t in zip(names, tensors, strict=True)}
    example: dict[Any, int] = {}
    for size in (size for tensor in tensors for size in tensor.shape):
        dim = _dim(size)
        if not isinstance(dim, int) and len(dim.free_symbols) == 1:
            (symbol,) = dim.free_symbols
            (value, *_) = sympy.solve(dim - size.node.hint, symbol)
            example.setdefault(symbol, int(value))
    return Sizes(dims, example)


def _dim(size: Any) -> Any:
    """A number, or an expression with symbols."""
    return size if isinstance(size, int) else _number_or_expression(size.node.expr)


class Trials:
    """Runs a module at the example's sizes and at others, on random inputs.

    A size that the module does not run at alone is varied together with others that are equal to
    it in the example; one that it runs at in no way is fixed.

    run: the module on feeds. examples: the example's inputs, for the range of integers.
    done: afterwards, inputs and the outputs wanted for them.
    sizes: afterwards, the sizes that may vary.
    fixed: afterwards, how many symbols may not.

    Raises ConversionError where the module does not run on random inputs.
    """

    def __init__(
        self,
        graph: Graph,
        run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
        sizes: Sizes,
        examples: Mapping[str, Array],
    ) -> None:
        self._graph, self._run, self._examples = graph, run, examples
        self._rng = np.random.default_rng(0)
        self._reason = ""
        self.sizes = sizes
        self.done: list[Trial] = []
        if not self._try({}):
            raise ConversionError(f"the module does not run on random inputs: {self._reason}")
        found = self._settle()
        for choice in (0, -1):
            self._try({s: values[choice] for s, values in found.items()})
        self._try(dict.fromkeys(found, 1))

    def _settle(self) -> dict[Any, list[int]]:
        """Join or fix the symbols that cannot vary alone; other sizes for those that are left."""
        example = self.sizes.example
        found = {s: self._accepted([s], k) for k, s in enumerate(example)}
        stuck = [s for s, values in found.items() if not values]
        replaced: dict[Any, Any] = {}
        for symbol in stuck:
            if symbol in replaced:
                continue
            peers = [s for s in stuck if s != symbol and example[s] == example[symbol]]
            free = [s for s in peers if s not in replaced]
            for group in [*([s] for s in free), *([free] if len(free) > 1 else [])]:
                found[symbol] = self._accepted([symbol, *group], 0)
                if found[symbol]:
                    replaced.update(dict.fromkeys(group, symbol))
                    break
            else:
                replaced[symbol] = example[symbol]
        self.sizes = self.sizes.replaced(_integers(replaced))
        return {s: found[s] for s in self.sizes.example}

    def _accepted(self, symbols: Sequence[Any], number: int) -> list[int]:
        """Up to two other sizes that the module takes; `number` keeps those of symbols apart."""
        size = self.sizes.example[symbols[0]]
        steps = (number + 1, 2 * number + 3, 1, 2, 3, 4, size, 2 * size, -1, 1 - size)
        found: list[int] = []
        for other in dict.fromkeys(size + step for step in steps if step and size + step > 0):
            if len(found) < 2 and self._try(dict.fromkeys(symbols, other)):
                found.append(other)
        return found

    def _try(self, changed: Mapping[Any, int]) -> bool:
        shapes = self.sizes.shapes(changed)
        if any(size < 0 for shape in shapes.values() for size in shape):
            return False
        feeds = fill(self._graph, shapes, self._rng, self._examples)
        return self._call(feeds) or self._call(_descending(feeds))

    def _call(self, feeds: Mapping[str, Array]) -> bool:
        try:
            wanted = self._run(feeds)
        except ReferenceFailedError as error:
            self._reason = self._reason or first_line(error)
            return False
        self.done.append((feeds, wanted))
        return True


def _integers(values: Mapping[Any, Any]) -> dict[Any, Any]:
    sympy = require("sympy")
    return {s: sympy.Integer(v) if isinstance(v, int) else v for s, v in values.items()}


def _descending(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The feeds with integer rows sorted downwards, as some modules expect of lengths."""
    return {
        name: np.sort(a)[::-1].copy() if a.ndim == 1 and a.dtype.kind in "iu" else a
        for name, a in feeds.items()
    }
