"""Recurrent layers drawn at random: any operator, attributes, optional inputs and sizes.

What lies past the end of a row (`sequence_lens`) is NaN in half of the layers: nobody may read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from lightrnn.graph import Array, Graph, Node, TensorType
from lightrnn.ops import REGISTRY, Operator, build
from tests.naive.activations import ALPHA, BETA, TAKE_ALPHA, TAKE_BETA
from tests.naive.gru import gru
from tests.naive.lstm import lstm
from tests.naive.rnn import rnn

ORACLES: dict[str, Callable[..., tuple[Array, ...]]] = {"RNN": rnn, "GRU": gru, "LSTM": lstm}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": 1, "GRU": 2, "LSTM": 3}
"""Activations of one direction."""
NAMES = (
    "Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh",
    "HardSigmoid", "Elu", "Softsign", "Softplus",
)  # fmt: skip
SPECIFIED = ("X", "sequence_lens", "initial_h", "initial_c")
"""Inputs that a model usually gets when it runs; the others are its weights."""


@dataclass(frozen=True)
class Layer:
    """One recurrent node with its inputs.

    inputs: by ONNX's names. attrs: ONNX attributes. wanted: the outputs somebody reads.
    fed: the inputs that come when the graph runs; the others are constants.
    """

    seed: int
    op: str
    inputs: dict[str, Array]
    attrs: dict[str, Any]
    wanted: tuple[str, ...]
    fed: tuple[str, ...] = SPECIFIED

    def __str__(self) -> str:
        shapes = {name: a.shape for name, a in self.inputs.items()}
        lengths = self.inputs.get("sequence_lens")
        told = "" if lengths is None else f" lengths {lengths.tolist()}"
        return f"seed {self.seed}: {self.op} {self.attrs} {shapes}{told} -> {self.wanted}"

    @property
    def values(self) -> tuple[Array | None, ...]:
        """The inputs by position, up to the last that is given."""
        names = REGISTRY[self.op].inputs.names
        last = max(k for k, name in enumerate(names) if name in self.inputs)
        return tuple(self.inputs.get(name) for name in names[: last + 1])

    @property
    def node(self) -> Node:
        cls = REGISTRY[self.op]
        given = cls.inputs.names[: len(self.values)]
        return Node(
            self.op,
            tuple(name if name in self.inputs else "" for name in given),
            tuple(name if name in self.wanted else "" for name in cls.outputs.names),
            self.attrs,
            "layer",
        )

    @property
    def operator(self) -> Operator:
        return build(self.node)

    @property
    def graph(self) -> Graph:
        fed = {n: a for n, a in self.inputs.items() if n in self.fed}
        constants = {n: a for n, a in self.inputs.items() if n not in self.fed}
        dtype = self.inputs["X"].dtype
        return Graph(
            {name: TensorType(a.dtype, a.shape) for name, a in fed.items()},
            {name: TensorType(dtype, None) for name in self.wanted},
            (self.node,),
            constants,
        )

    @property
    def feeds(self) -> list[Array]:
        return [a for name, a in self.inputs.items() if name in self.fed]

    @cached_property
    def expected(self) -> dict[str, Array]:
        """All outputs, from the oracle."""
        with np.errstate(all="ignore"):
            outputs = ORACLES[self.op](*self.values, **self.attrs)
        return dict(zip(REGISTRY[self.op].outputs.names, outputs, strict=True))

    def cast(self, dtype: Any) -> Layer:
        """The layer with its floats in another element type."""
        return replace(
            self,
            inputs={
                name: a.astype(dtype) if a.dtype.kind == "f" else a
                for name, a in self.inputs.items()
            },
        )

    @cached_property
    def noise(self) -> dict[str, float]:
        """How far each output moves when every input moves by a float32's last place."""
        rng = np.random.default_rng(self.seed)
        ulp = float(np.finfo(np.float32).eps)
        blurred = {
            name: a * (1 + ulp * rng.choice([-1.0, 1.0], a.shape)) if a.dtype.kind == "f" else a
            for name, a in self.inputs.items()
        }
        moved = replace(self, inputs=blurred).expected
        return {n: float(np.abs(moved[n] - a).max(initial=0)) for n, a in self.expected.items()}

    def with_all_parameters(self) -> Layer:
        """The layer with every activation's alpha and beta written out."""
        names = self.attrs.get("activations")
        if names is None:
            return self
        alphas = _completed(names, self.attrs.get("activation_alpha", ()), TAKE_ALPHA, ALPHA)
        betas = _completed(names, self.attrs.get("activation_beta", ()), TAKE_BETA, BETA)
        attrs = {**self.attrs, "activation_alpha": alphas, "activation_beta": betas}
        return replace(self, attrs={k: v for k, v in attrs.items() if v != ()})


def _completed(
    names: Any, given: Any, takers: set[str], defaults: dict[str, float]
) -> tuple[float, ...]:
    taking = [name for name in names if name in takers]
    return (*given, *(defaults[name] for name in taking[len(given) :]))


@dataclass(frozen=True)
class Sizes:
    """What a draw chooses from: hidden sizes, numbers of steps, batches, input sizes."""

    hidden: tuple[int, ...] = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 48, 64, 97)
    time: tuple[int, ...] = (0, 1, 1, 2, 3, 5, 8)
    batch: tuple[int, ...] = (0, 1, 1, 2, 3, 4, 7, 13)
    inputs: tuple[int, ...] = (1, 2, 3, 5, 16, 17, 40)


TINY = Sizes((1, 2, 3, 16, 17), (0, 1, 2), (0, 1, 2, 3), (1, 2, 5))
MODEST = 1e3
"""Magnitude that outputs stay below. Unbounded activations may grow past float32 in a few steps."""


def draw(seed: int, sizes: Sizes = Sizes()) -> Layer:
    """The layer of a seed."""
    rng = np.random.default_rng(seed)
    while True:
        layer = _Draw(rng, seed, sizes).layer()
        if largest(layer.expected.values()) < MODEST:
            return layer


@dataclass
class _Draw:
    rng: np.random.Generator
    seed: int
    sizes: Sizes
    attrs: dict[str, Any] = field(default_factory=dict)

    def one(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def maybe(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def normal(self, scale: float, *shape: int) -> Array:
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def uniform(self, *shape: int) -> Array:
        """Weights as layers have them before training: within 1 / sqrt(columns)."""
        bound = max(shape[-1], 1) ** -0.5
        return self.rng.uniform(-bound, bound, shape).astype(np.float32)

    def layer(self) -> Layer:
        op = self.one("RNN", "GRU", "LSTM")
        hidden = self.one(*self.sizes.hidden)
        self._attributes(op, hidden)
        inputs = self._inputs(op, hidden)
        outputs = REGISTRY[op].outputs.names
        wanted: tuple[str, ...] = outputs
        if self.maybe(0.3):
            wanted = tuple(n for n in outputs if self.maybe(0.5)) or outputs[-1:]
        fed: tuple[str, ...] = SPECIFIED
        if self.maybe(0.05):
            fed = tuple(inputs)
        elif self.maybe(0.1):
            fed = ("X",)
        return Layer(self.seed, op, inputs, self.attrs, wanted, fed)

    def _attributes(self, op: str, hidden: int) -> None:
        self.attrs["hidden_size"] = hidden
        direction = self.one("forward", "reverse", "bidirectional", None)
        if direction is not None:
            self.attrs["direction"] = direction
        if self.maybe(0.4):
            self.attrs["layout"] = self.one(0, 1, 1)
        if self.maybe(0.25):
            self.attrs["clip"] = self.one(0.05, 0.3, 1.0, 3.0)
        if self.maybe(0.5):
            self._activations(USUAL[op] * (2 if direction == "bidirectional" else 1))
        if op == "GRU" and self.maybe(0.6):
            self.attrs["linear_before_reset"] = self.one(0, 1, 1)
        if op == "LSTM" and self.maybe(0.3):
            self.attrs["input_forget"] = self.one(0, 1, 1)

    def _activations(self, count: int) -> None:
        names = tuple(self.one(*NAMES) for _ in range(count))
        self.attrs["activations"] = names
        for attr, takers, defaults in (
            ("activation_alpha", TAKE_ALPHA, ALPHA),
            ("activation_beta", TAKE_BETA, BETA),
        ):
            taking = [name for name in names if name in takers]
            least = max((k + 1 for k, n in enumerate(taking) if n not in defaults), default=0)
            given = int(self.rng.integers(least, len(taking) + 1))
            if given:
                self.attrs[attr] = tuple(float(v) for v in self.rng.uniform(0.1, 0.9, given))

    def _inputs(self, op: str, hidden: int) -> dict[str, Array]:
        time, batch = self.one(*self.sizes.time), self.one(*self.sizes.batch)
        size = self.one(*self.sizes.inputs)
        directions = 2 if self.attrs.get("direction") == "bidirectional" else 1
        projected = op == "LSTM" and self.maybe(0.25)
        state = self.one(1, 2, 7, 16, 19) if projected else hidden
        rows = GATES[op] * hidden
        first = (batch, directions) if self.attrs.get("layout") else (directions, batch)
        inputs = {
            "X": self.normal(
                self.one(0.5, 1.0, 1.0, 4.0),
                *((batch, time) if self.attrs.get("layout") else (time, batch)),
                size,
            ),
            "W": self.uniform(directions, rows, size),
            "R": self.uniform(directions, rows, state),
        }
        if self.maybe(0.7):
            inputs["B"] = self.normal(0.3, directions, 2 * rows)
        if self.maybe(0.4):
            inputs["sequence_lens"] = self._lengths(inputs["X"], time, batch)
        if self.maybe(0.5):
            inputs["initial_h"] = self.normal(0.7, *first, state)
        if op == "LSTM":
            if self.maybe(0.5):
                inputs["initial_c"] = self.normal(0.7, *first, hidden)
            if self.maybe(0.3):
                inputs["P"] = self.normal(0.4, directions, 3 * hidden)
            if projected:
                inputs["projection"] = self.uniform(directions, state, hidden)
        return inputs

    def _lengths(self, x: Array, time: int, batch: int) -> Array:
        lengths = self.rng.integers(0, time + 1, batch).astype(np.int32)
        if self.maybe(0.5):
            rows = x if self.attrs.get("layout") else x.swapaxes(0, 1)
            for row, length in zip(rows, lengths, strict=True):
                row[length:] = np.nan
        return lengths


def largest(arrays: Iterable[Array]) -> float:
    """The largest magnitude; infinite where there is NaN."""
    found = max((np.abs(a).max(initial=0) for a in arrays), default=0)
    return float("inf") if np.isnan(found) else float(found)
