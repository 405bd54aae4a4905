"""The `text` of a model file: what it may say, checked against the graph that it describes.

    {"task": "classification",
     "tokenizer": {"kind": "characters", "characters": "abc", "lowercase": true,
                   "normalization": "NFC", "padding_id": 0, "unknown_id": 1, "max_length": 256},
     "labels": ["ar", "bg"],
     "ids": "ids", "lengths": "lengths", "scores": "logits", "scores_are": "logits"}

`lengths`, `normalization` and `max_length` may be null or left out; `lowercase`, `padding_id` and
`unknown_id` may be left out and are then false, 0 and 1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from lightrnn.errors import TextError
from lightrnn.graph import FLOAT32, INT32, INT64, Graph, TensorType

Normalization: TypeAlias = Literal["NFC", "NFD", "NFKC", "NFKD"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
S = TypeVar("S", bound=str)

SCORES = ("logits", "probabilities")


@dataclass(frozen=True)
class CharacterSpec:
    """A tokenizer of one id a character.

    characters: in the order of their ids, which count from 0 and skip padding_id and unknown_id.
    lowercase: after normalization. max_length: what follows is cut off; None for no limit.
    """

    characters: str
    lowercase: bool
    normalization: Normalization | None
    padding_id: int
    unknown_id: int
    max_length: int | None


@dataclass(frozen=True)
class ClassificationSpec:
    """One label a text.

    ids: name of the input [N, T]. lengths: name of the input [N], None if the model takes none.
    scores: name of the output [N, labels]. scores_are: "logits" or "probabilities".
    """

    tokenizer: CharacterSpec
    labels: tuple[str, ...]
    ids: str
    lengths: str | None
    scores: str
    scores_are: str


def parse(text: Any, graph: Graph) -> ClassificationSpec:
    """The task that a model file describes. Raises TextError for anything not understood."""
    fields = _Fields(text, "text")
    _one_of(fields.take("task", str), ("classification",), "the task")
    spec = ClassificationSpec(
        tokenizer=_tokenizer(fields.take("tokenizer", Mapping)),
        labels=_labels(fields.take("labels", list)),
        ids=fields.take("ids", str),
        lengths=fields.take("lengths", str, type(None), default=None),
        scores=fields.take("scores", str),
        scores_are=_one_of(fields.take("scores_are", str), SCORES, "scores_are"),
    )
    fields.finish()
    _check_inputs(spec, graph)
    _check_scores(spec, graph)
    return spec


def _tokenizer(value: Any) -> CharacterSpec:
    fields = _Fields(value, "tokenizer")
    _one_of(fields.take("kind", str), ("characters",), "the kind of tokenizer")
    form = fields.take("normalization", str, type(None), default=None)
    spec = CharacterSpec(
        characters=fields.take("characters", str),
        lowercase=fields.take("lowercase", bool, default=False),
        normalization=None if form is None else _one_of(form, NORMALIZATIONS, "normalization"),
        padding_id=fields.take("padding_id", int, default=0),
        unknown_id=fields.take("unknown_id", int, default=1),
        max_length=fields.take("max_length", int, type(None), default=None),
    )
    fields.finish()
    for name, number in (("padding_id", spec.padding_id), ("unknown_id", spec.unknown_id)):
        if not 0 <= number < 2**31:
            raise TextError(f"{name} is {number}, expected 0 or more")
    if spec.max_length is not None and spec.max_length < 1:
        raise TextError(f"max_length is {spec.max_length}, expected 1 or more")
    if twice := _repeated(spec.characters):
        raise TextError(f"characters hold {twice!r} (U+{ord(twice):04X}) twice")
    return spec


def _labels(value: list[Any]) -> tuple[str, ...]:
    if not value:
        raise TextError("labels are empty")
    for k, label in enumerate(value):
        if not isinstance(label, str) or not label:
            raise TextError(f"label {k} is {label!r}, expected a string that is not empty")
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in label):
            raise TextError(f"label {k}, {label!r}, holds a control character or a line break")
    if twice := _repeated(value):
        raise TextError(f"labels hold {twice!r} twice")
    return tuple(value)


def _check_inputs(spec: ClassificationSpec, graph: Graph) -> None:
    ids = _tensor(graph.inputs, spec.ids, 2, "input")
    wanted = {spec.ids}
    if spec.lengths is not None:
        wanted.add(spec.lengths)
        _tensor(graph.inputs, spec.lengths, 1, "input")
        if len(wanted) == 1:
            raise TextError(f"ids and lengths are both the input {spec.ids!r}")
    if others := [name for name in graph.inputs if name not in wanted]:
        raise TextError(f"the model also has the input {others[0]!r}, which text cannot give")
    longest, steps = spec.tokenizer.max_length, None if ids.shape is None else ids.shape[1]
    if not isinstance(steps, int):
        return
    if spec.lengths is None:
        raise TextError(f"input {spec.ids!r} is {ids}: a fixed length, and the model takes none")
    if longest is None or longest > steps:
        raise TextError(f"max_length is {longest}, input {spec.ids!r} is {ids}")


def _check_scores(spec: ClassificationSpec, graph: Graph) -> None:
    scores = _tensor(graph.outputs, spec.scores, 2, "output")
    count = None if scores.shape is None else scores.shape[1]
    if isinstance(count, int) and count != len(spec.labels):
        raise TextError(f"{len(spec.labels)} labels, but output {spec.scores!r} is {scores}")


def _tensor(types: Mapping[str, TensorType], name: str, rank: int, what: str) -> TensorType:
    """A tensor of the graph, its rank and dtype such as text needs."""
    kind = types.get(name)
    if kind is None:
        raise TextError(f"no {what} {name!r}, the graph has {', '.join(types) or 'none'}")
    if kind.rank not in (None, rank):
        raise TextError(f"{what} {name!r} is {kind}, expected rank {rank}")
    dtypes = (INT64, INT32) if what == "input" else (FLOAT32,)
    if kind.dtype not in dtypes:
        names = " or ".join(d.name for d in dtypes)
        raise TextError(f"{what} {name!r} is {kind}, expected {names}")
    return kind


def _one_of(value: str, known: tuple[S, ...], what: str) -> S:
    for one in known:
        if one == value:
            return one
    raise TextError(f"{what} is {value!r}, expected {' or '.join(map(repr, known))}")


def _repeated(items: str | list[str]) -> str | None:
    """The first item that occurs a second time."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


_REQUIRED = object()
_JSON_NAMES = {
    str: "a string", bool: "true or false", int: "a whole number", list: "a list",
    Mapping: "an object", type(None): "null",
}  # fmt: skip


class _Fields:
    """The fields of a JSON object, each taken once; what is left over is not understood."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, Mapping):
            raise TextError(f"{what} is {_short(value)}, expected an object")
        self._left = dict(value)
        self._what = what

    def take(self, name: str, *kinds: Any, default: Any = _REQUIRED) -> Any:
        """A field of one of these types. Raises TextError."""
        value = self._left.pop(name, default)
        if value is _REQUIRED:
            raise TextError(f"{self._what} lacks {name!r}")
        is_bool = isinstance(value, bool)
        if not isinstance(value, kinds) or (is_bool and bool not in kinds):
            expected = " or ".join(_JSON_NAMES[k] for k in kinds)
            raise TextError(f"{name!r} of {self._what} is {_short(value)}, expected {expected}")
        return value

    def finish(self) -> None:
        """Raise TextError if a field has not been taken."""
        if self._left:
            raise TextError(f"{self._what} has the unknown field {min(map(str, self._left))!r}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
