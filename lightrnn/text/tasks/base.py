"""What a task is: texts to results by one model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar, TypeAlias

import numpy as np

from lightrnn.errors import InputError, TextError
from lightrnn.graph import Array, Dim, Graph, TensorType
from lightrnn.model import Model
from lightrnn.text.fields import Fields, short, tensor
from lightrnn.text.tokenizers import Tokenizer

Result: TypeAlias = dict[str, Any]
"""What a pipeline gives for one text; its keys are those of the task."""

STEP = 8
"""Where the model takes lengths, texts are padded to multiples of this: few shapes, few plans."""


class Task(ABC):
    """A model's graphs as a function of texts; any number of threads may call it.

    Options: a frozen dataclass of what a caller may choose, with defaults.
    reads: what it takes for a text. mixed: whether texts of different length may share a batch.
    batch_size: the only one that the model takes, None where any will do. numbered: whether a
    result depends on the text's index.
    """

    name: ClassVar[str]
    Options: ClassVar[Any]
    reads: type[Any] = str
    mixed: bool
    batch_size: int | None = None
    numbered: bool = False

    @classmethod
    @abstractmethod
    def parse(cls, fields: Fields, model: Model, options: Mapping[str, Any]) -> Task:
        """The task that `text` fields describe, checked against the model's graphs."""

    @abstractmethod
    def encode(self, text: str, index: int = 0) -> Any:
        """What `run` takes of text number `index`; its len() is 0 where there is nothing to do."""

    @abstractmethod
    def run(self, batch: Sequence[Any]) -> list[Result]:
        """Results of encoded texts of length 1 or more; of equal length unless `mixed`."""

    @abstractmethod
    def empty(self) -> Result:
        """The result of a text of length 0; it has the keys that all results have."""

    @abstractmethod
    def show(self, result: Result) -> str:
        """A result in a line of plain text; "" for an empty one."""

    def __str__(self) -> str:
        labels = getattr(self, "labels", ())
        listed = f", {len(labels)} labels: {', '.join(labels)}" if labels else ""
        return f"{self.name}{listed}"

    def row(self, result: Result) -> list[str]:
        """A result as the columns of a table; by default what `show` gives, and the score."""
        scored = "score" in result and result != self.empty()
        return [self.show(result), *([f"{result['score']:.6f}"] if scored else [])]


def choose(kind: Any, given: Mapping[str, Any]) -> Any:
    """An instance of a dataclass of options. Raises InputError for one that it does not have."""
    known = [field.name for field in dataclass_fields(kind)]
    for name in given:
        if name not in known:
            raise InputError(f"no option {name!r}, the task has {', '.join(known) or 'none'}")
    return kind(**given)


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given a value."""
    return {name: value for name, value in options.items() if value is not None}


class RowsInput:
    """An input of rows [N, T, ...], and lengths [N] where the model takes them."""

    def __init__(
        self,
        graph: Graph,
        name: str,
        kind: TensorType,
        lengths: str | None,
        longest: int | None,
        padding: int = 0,
    ) -> None:
        """kind: of the input. longest: what a row has at most. padding: fills up shorter rows.

        Raises TextError where the graph does not have such inputs.
        """
        self.name, self.lengths = name, lengths
        self.names = {name, *([] if lengths is None else [lengths])}
        self._kind = kind
        self._lengths = None if lengths is None else tensor(graph.inputs, lengths, (1,), "input")
        self._longest, self._padding = longest, padding
        self._batch, self._steps = (None, None) if kind.shape is None else kind.shape[:2]
        self._width: tuple[int, ...] = ()
        self._check_steps()

    @property
    def steps(self) -> Dim:
        """The T of the graph's input."""
        return self._steps

    @property
    def mixed(self) -> bool:
        """Whether rows of different length may share a batch."""
        return self._lengths is not None

    @property
    def batch_size(self) -> int | None:
        """The only batch size that the graph takes."""
        return self._batch if isinstance(self._batch, int) else None

    @property
    def fixed(self) -> bool:
        """Whether the graph takes rows of one length alone, and shorter ones padded to it."""
        return isinstance(self._steps, int)

    def feeds(self, rows: Sequence[Any], *, exact: bool = False) -> dict[str, Array]:
        """Arrays of rows, the last repeated up to the graph's batch size.

        exact: rows are of equal length and stay as they are, even where padding does no harm.
        """
        rows = [*rows, *[rows[-1]] * ((self.batch_size or 0) - len(rows))]
        lengths = [len(row) for row in rows]
        steps = max(lengths) if exact else self._padded(max(lengths))
        values = np.full((len(rows), steps, *self._width), self._padding, self._kind.dtype)
        for place, row in zip(values, rows, strict=True):
            place[: len(row)] = row
        feeds = {self.name: values}
        if self._lengths is not None and self.lengths is not None:
            feeds[self.lengths] = np.array(lengths, self._lengths.dtype)
        return feeds

    def check_no_others(self, graph: Graph, known: Sequence[str] = ()) -> None:
        """Raise TextError if the graph has inputs besides these and `known`."""
        if others := [n for n in graph.inputs if n not in self.names and n not in known]:
            raise TextError(f"the model also has the input {others[0]!r}, which text cannot give")

    def _check_steps(self) -> None:
        if not isinstance(self._steps, int):
            return
        if self._lengths is None:
            raise TextError(
                f"input {self.name!r} is {self._kind}: a fixed length, and the model takes none"
            )
        if self._longest is None or self._longest > self._steps:
            raise TextError(f"max_length is {self._longest}, input {self.name!r} is {self._kind}")

    def _padded(self, longest: int) -> int:
        steps: Dim = self._steps
        if isinstance(steps, int):
            return steps
        if not self.mixed:
            return longest
        return min(-(-longest // STEP) * STEP, self._longest or 2**31)


class IdsInput(RowsInput):
    """The inputs that token ids go to: ids [N, T], and lengths [N] where the model takes them."""

    def __init__(self, graph: Graph, ids: str, lengths: str | None, tokenizer: Tokenizer) -> None:
        """Raises TextError where the graph does not have such inputs."""
        if lengths == ids:
            raise TextError(f"ids and lengths are both the input {ids!r}")
        kind, options = tensor(graph.inputs, ids, (2,), "input"), tokenizer.options
        super().__init__(graph, ids, kind, lengths, options.max_length, options.padding_id)


def no_options() -> Any:
    """A dataclass without fields, for tasks that leave callers nothing to choose."""
    from dataclasses import make_dataclass

    return make_dataclass("Options", [], frozen=True)


def expect_shape(name: str, array: Array, shape: tuple[int | None, ...]) -> None:
    """Raise TextError unless an output has a shape; None is any size."""
    fits = array.ndim == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("?" if d is None else str(d) for d in shape)
        raise TextError(f"output {name!r} has shape {short(array.shape)}, expected ({wanted})")
