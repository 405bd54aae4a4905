"""Which sizes of a torch module's inputs may vary: found by running the module at others."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from lightrnn.errors import ConversionError
from lightrnn.graph import Array, Graph
from lightrnn.model import Model
from lightrnn_converters.feeds import MOST_ELEMENTS, fill
from lightrnn_converters.optional import first_line, require
from lightrnn_converters.save import to_bytes
from lightrnn_converters.verify import ReferenceFailedError, runs

Trial: TypeAlias = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Inputs, and the outputs wanted for them."""

_MOST_BEYOND = 16
"""How many sizes are tried at which guards do not hold."""

_MADE_UP = re.compile(r"[su]\d+")
"""Names that torch gives to sizes."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a program's inputs.

    dims: for each input a number or an expression of symbols (sympy) for each axis.
    example: the value of each symbol in the example.
    guards: what held of the symbols (sympy) where the program was traced: perhaps the module does
    something else where it does not hold.
    """

    dims: Mapping[str, tuple[Any, ...]]
    example: Mapping[Any, int]
    guards: Sequence[Any] = ()

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
        guards = [g.xreplace(values) for g in self.guards]
        return Sizes(dims, {s: v for s, v in self.example.items() if s not in values}, guards)

    def with_fixed(self, names: Sequence[str]) -> Sizes:
        """The sizes with those fixed that only inputs of these names have."""
        free = [d for n, dims in self.dims.items() if n not in names for d in dims]
        elsewhere = set().union(*(d.free_symbols for d in free if not isinstance(d, int)))
        own = {s: v for s, v in self.example.items() if s not in elsewhere}
        return self.replaced(_integers(own))

    def fits(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether inputs of these shapes have the sizes that are fixed."""
        return all(
            not isinstance(d, int) or d == size
            for name, dims in self.dims.items()
            for d, size in zip(dims, shapes[name], strict=True)
        )

    def beyond(self) -> Iterator[tuple[Any, dict[Any, int]]]:
        """Guards, each with a size near the example's at which it does not hold."""
        sympy = require("sympy")
        for guard in self.guards:
            symbols = guard.free_symbols
            if not symbols <= self.example.keys():
                continue
            numbers = {int(n) for n in guard.atoms(sympy.Integer)}
            numbers |= {self.example[s] for s in symbols}
            pairs = list(itertools.product(numbers, repeat=2))
            numbers |= {a + b for a, b in pairs} | {a * b for a, b in pairs}
            near = {n + step for n in numbers for step in (-1, 0, 1) if n + step > 1}
            for symbol in sorted(symbols, key=str):
                for other in sorted(near, key=partial(_distance, self.example[symbol])):
                    if guard.xreplace(_integers({**self.example, symbol: other})) == sympy.false:
                        yield guard, {symbol: other}
                        break

    def called(self, expression: Any) -> str:
        """An expression in the names that sizes have after the first place of each."""
        sympy = require("sympy")
        names: dict[Any, Any] = {}
        for name, dims in self.dims.items():
            for axis, dim in enumerate(dims):
                if not isinstance(dim, int) and dim.is_Symbol:
                    names.setdefault(dim, sympy.Symbol(f"{name}_{axis}"))
        return str(expression.xreplace(names))

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


def _distance(size: int, other: int) -> int:
    return abs(other - size)


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
    modes = (getattr(t, "fake_mode", None) for t in tensors)
    spaces = (getattr(mode, "shape_env", None) for mode in modes)
    guards = dict.fromkeys(g.expr for space in spaces if space is not None for g in space.guards)
    return Sizes(dims, example, list(guards))


def _dim(size: Any) -> Any:
    """A number, or an expression with symbols."""
    return size if isinstance(size, int) else _number_or_expression(size.node.expr)


class Trials:
    """Runs a module at the example's sizes and at others, on random inputs.

    A size that the module or its graph does not run at alone is varied together with others that
    are equal to it in the example; one that the module runs at in no way is fixed.

    run: the module on feeds. examples: the example's inputs, tried as they are, and for the range
    of integers; also integers of theirs are tried, where the module does not run on others.
    done: afterwards, inputs and the outputs wanted for them.
    beyond: the same where a guard does not hold, with the guard's text.
    sizes: afterwards, the sizes that may vary.

    Raises ConversionError where the module does not run on its example.
    """

    def __init__(
        self,
        graph: Graph,
        run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
        sizes: Sizes,
        examples: Mapping[str, Array],
    ) -> None:
        self._graph, self._run, self._examples = graph, run, examples
        self._model = Model(to_bytes(graph))
        self._rng = np.random.default_rng(0)
        self._reason = ""
        self.sizes = sizes
        self.done: list[Trial] = []
        self.beyond: list[tuple[str, Trial]] = []
        self._untaken: dict[Any, Trial] = {}
        """By symbol, what the module ran on while the graph can at no such size."""
        if not self._call({n: np.asarray(examples[n], t.dtype) for n, t in graph.inputs.items()}):
            raise ConversionError(f"the module does not run on its example: {self._reason}")
        self._try({})
        found = self._settle()
        for choice in (0, -1):
            self._try({s: values[choice] for s, values in found.items()})
        self._try(dict.fromkeys(found, 1))
        for guard, changed in itertools.islice(self.sizes.beyond(), _MOST_BEYOND):
            elements = sum(map(math.prod, self.sizes.shapes(changed).values()))
            if elements <= MOST_ELEMENTS and self._try(changed):
                self.beyond.append((self.sizes.called(guard), self.done.pop()))

    def done_within(self, sizes: Sizes) -> list[Trial]:
        """Those of the trials whose inputs have the sizes that are fixed in `sizes`."""
        return [t for t in self.done if sizes.fits({n: a.shape for n, a in t[0].items()})]

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
                if symbol in self._untaken:
                    self.done.append(self._untaken[symbol])
                    found[symbol] = [example[symbol]]
                else:
                    replaced[symbol] = example[symbol]
        self.sizes = self.sizes.replaced(_integers(replaced))
        return {s: found[s] for s in self.sizes.example}

    def _accepted(self, symbols: Sequence[Any], number: int) -> list[int]:
        """Up to two other sizes that the module takes; `number` keeps those of symbols apart."""
        size = self.sizes.example[symbols[0]]
        steps = (number + 1, 2 * number + 3, 1, 2, 3, 4, size, 2 * size, -1, 1 - size)
        found: list[int] = []
        untaken: list[Trial] = []
        for other in dict.fromkeys(size + step for step in steps if step and size + step > 0):
            changed = dict.fromkeys(symbols, other)
            if len(found) < 2 and self._try(changed):
                if runs(self._model, self.done[-1][0]):
                    found.append(other)
                else:
                    untaken.append(self.done.pop())
        if found:
            self.done += untaken
        elif untaken:
            self._untaken[symbols[0]] = untaken[0]
        return found

    def _try(self, changed: Mapping[Any, int]) -> bool:
        shapes = self.sizes.shapes(changed)
        if any(size < 0 for shape in shapes.values() for size in shape):
            return False
        feeds = fill(self._graph, shapes, self._rng, self._examples)
        if self._call(feeds):
            return True
        if all(a.dtype.kind not in "iu" for a in feeds.values()):
            return False
        given = self._like_examples(feeds)
        return any(self._call(f) for f in (_descending(feeds), given, _descending(given)))

    def _like_examples(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The feeds with integers that the examples have."""
        return {
            name: self._rng.choice(self._examples[name].ravel(), a.shape).astype(a.dtype)
            if a.dtype.kind in "iu" and self._examples[name].size
            else a
            for name, a in feeds.items()
        }

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
