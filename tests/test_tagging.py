"""Tagging: labels, the spans that they mark, and conditional random fields behind a tagger."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from lightrnn_converters.crf import attach_crf

import lightrnn
from lightrnn.errors import ConversionError, TextError
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Graph, Node, TensorType
from lightrnn.text import Pipeline
from lightrnn.text.tasks.tagging import marked

CHARACTERS = "abcdefgh "
LABELS = ["O", "B-X", "I-X"]
TEXT: dict[str, Any] = {
    "task": "tagging",
    "tokenizer": {"kind": "characters", "characters": CHARACTERS},
    "labels": LABELS,
    "ids": "ids",
    "lengths": "lengths",
    "scores": "logits",
    "scheme": "BIO",
}


def tagger(lengths: Any = INT64) -> Graph:
    """ids [N, T], lengths [N] to logits [N, T, 3]: lookup, GRU both ways, product."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    nodes = (
        Node("Cast", ("lengths",), ("lens",), {"to": 6}),
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}),
        Node("Transpose", ("rows",), ("x",), {"perm": (1, 0, 2)}),
        Node("GRU", ("x", "w", "r", "", "lens"), ("y",),
             {"hidden_size": 6, "direction": "bidirectional"}),
        Node("Transpose", ("y",), ("turned",), {"perm": (2, 0, 1, 3)}),
        Node("Reshape", ("turned", "shape"), ("flat",)),
        Node("MatMul", ("flat", "out"), ("logits",)),
    )  # fmt: skip
    constants = {
        "table": weights(len(CHARACTERS) + 2, 5), "w": weights(2, 18, 5), "r": weights(2, 18, 6),
        "shape": np.array([0, 0, 12]), "out": weights(12, 3),
    }  # fmt: skip
    inputs = {"ids": TensorType(INT64, ("N", "T")), "lengths": TensorType(lengths, ("N",))}
    return Graph(inputs, {"logits": TensorType(FLOAT32, ("N", "T", 3))}, nodes, constants)


def spelled(labels: str = "BMES", **tokenizer: Any) -> Pipeline:
    """A tagger of one-letter labels that gives each letter the label of its name, others "S"."""
    table = np.eye(12, len(labels), dtype=np.float32)
    table[len(labels) :, labels.index("S")] = 1
    text = {
        "task": "tagging", "labels": list(labels), "ids": "ids", "scores": "logits",
        "scheme": "BMES", "tokenizer": {
            "kind": "characters", "characters": labels.lower(), "padding_id": 8, "unknown_id": 9,
            **tokenizer,
        },
    }  # fmt: skip
    graph = Graph(
        {"ids": TensorType(INT64, ("N", "T"))},
        {"logits": TensorType(FLOAT32, ("N", "T", len(labels)))},
        (Node("Gather", ("table", "ids"), ("logits",), {"axis": 0}),),
        {"table": table},
    )
    return lightrnn.pipeline(dumps(ModelFile({"main": graph}, text)))


def random_texts(count: int, longest: int = 30) -> list[str]:
    rng = np.random.default_rng(5)
    letters = list(CHARACTERS + "?é")
    return ["".join(rng.choice(letters, rng.integers(0, longest + 1))) for _ in range(count)]


def ids_of(text: str) -> Array:
    return np.array([[CHARACTERS.find(c) + 2 if c in CHARACTERS else 1 for c in text]])


def scores_alone(text: str) -> Array:
    """Logits [T, 3] of one text by itself."""
    model = lightrnn.load(dumps(ModelFile({"main": tagger()})))
    return model.run({"ids": ids_of(text), "lengths": np.array([len(text)])})["logits"][0]


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_tags_are_those_of_each_text_alone(batch_size: int) -> None:
    texts = random_texts(60)
    found = lightrnn.pipeline(dumps(ModelFile({"main": tagger()}, TEXT)), batch_size)(texts)
    wanted = [[LABELS[k] for k in scores_alone(t).argmax(1)] if t else [] for t in texts]
    assert {tag for tags in wanted for tag in tags} == set(LABELS)
    assert [f["tags"] for f in found] == wanted
    for text, result in zip(texts, found, strict=True):
        for span in result["spans"]:
            assert span["text"] == text[span["start"] : span["end"]] != ""


MARKED = [
    ("none", "A B A", "A01 B12 A23"),
    ("BIO", "", ""),
    ("BIO", "O O", ""),
    ("BIO", "B-X I-X O B-X", "X02 X34"),
    ("BIO", "B-X B-X", "X01 X12"),
    ("BIO", "I-X I-X O I-X", "X02 X34"),
    ("BIO", "B-X I-Y I-Y", "X01 Y13"),
    ("BIO", "O I-X B-Y", "X12 Y23"),
    ("BMES", "B-X M-X E-X S-X", "X03 X34"),
    ("BMES", "B-X E-X E-X", "X02 X23"),
    ("BMES", "M-X E-X", "X02"),
    ("BMES", "B-X B-X E-X", "X01 X13"),
    ("BMES", "B-X E-Y", "X01 Y12"),
    ("BMES", "S-X M-X", "X01 X12"),
    ("BMES", "B-X S-X M-X", "X01 X12 X23"),
    ("BMES", "B-X O E-X", "X01 X23"),
    ("BMES", "B M E S B", "03 34 45"),
    ("BMES", "B M S O S", "02 23 45"),
]


@pytest.mark.parametrize(("scheme", "tags", "wanted"), MARKED)
def test_what_tags_mark(scheme: str, tags: str, wanted: str) -> None:
    given = tags.split()
    found = marked(given, [(k, k + 1) for k in range(len(given))], scheme)
    assert " ".join(f"{label}{a}{b}" for label, a, b in found) == wanted


def test_words_do_not_hold_the_gaps_around_them() -> None:
    found = marked(["B-X", "I-X", "O", "B-X"], [(0, 3), (4, 7), (9, 10), (11, 12)], "BIO")
    assert list(found) == [("X", 0, 7), ("X", 11, 12)]


PLACES: list[tuple[dict[str, Any], str, list[str]]] = [
    ({}, "bmebes", ["bme", "be", "s"]),
    ({}, "BE", ["B", "E"]),
    ({"lowercase": True}, "BMebE", ["BMe", "bE"]),
    ({"normalization": "NFKC", "lowercase": True}, "ＢＭＥｓ", ["ＢＭＥ", "ｓ"]),
    ({"normalization": "NFC"}, "bme\u0301be", ["bm", "e\u0301", "be"]),
    ({"normalization": "NFD"}, "b\u00e9s", ["b\u00e9", "s"]),
    ({"normalization": "NFKC"}, "be…s", ["be", "…", "s"]),
    ({"normalization": "NFKC", "lowercase": True}, "b㎆e", ["b㎆", "e"]),
    ({"normalization": "NFKC", "lowercase": True}, "㎆", ["㎆"]),
    ({"lowercase": True}, "BİE", ["B", "İ", "E"]),
    ({"max_length": 4}, "bmebes", ["bme", "b"]),
    ({"max_length": 4, "truncation": "start"}, "bmebes", ["e", "be", "s"]),
    ({"begin_id": 10, "end_id": 11}, "bme", ["bme"]),
    ({"begin_id": 10, "end_id": 11, "max_length": 4}, "bes", ["be"]),
    ({"begin_id": 10, "max_length": 3, "truncation": "start"}, "sbe", ["be"]),
    ({"end_id": 11}, "b", ["b"]),
    ({}, "", []),
]


@pytest.mark.parametrize(("tokenizer", "text", "words"), PLACES)
def test_spans_stand_in_the_original_text(
    tokenizer: dict[str, Any], text: str, words: list[str]
) -> None:
    pipe = spelled(**tokenizer)
    (found,) = pipe([text])
    assert [span["text"] for span in found["spans"]] == words
    assert [text[span["start"] : span["end"]] for span in found["spans"]] == words
    assert pipe.task.show(found) == " ".join(words)
    ends = [0, *(span["end"] for span in found["spans"])]
    assert all(a <= span["start"] for a, span in zip(ends, found["spans"], strict=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": "BMES"}, "label 'I-X' is not one of scheme BMES"),
        ({"labels": ["O", "B", "I"]}, "label 'B' is not one of scheme BIO"),
        ({"labels": ["O", "B-X"]}, "2 labels, but output 'logits' is"),
        ({"tags": "logits"}, "needs `scores` or `tags`, one of them"),
        ({"scores": "no"}, "no output 'no', the graph has logits"),
        ({"scores": None, "tags": "logits"}, "expected int64 of rank 2"),
        ({"scheme": "IOB"}, "'scheme' of text is 'IOB', expected 'none' or 'BIO' or 'BMES'"),
        ({"lengths": None}, "also has the input 'lengths'"),
        ({"threshold": 1}, "unknown field 'threshold'"),
    ],
)
def test_a_bad_description_is_one_clear_error(changes: dict[str, Any], message: str) -> None:
    text = {k: v for k, v in {**TEXT, **changes}.items() if v is not None}
    with pytest.raises(TextError) as caught:
        lightrnn.pipeline(dumps(ModelFile({"main": tagger()}, text)))
    assert message in str(caught.value)


def field(seed: int, *, ends: bool = True) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    names = ("transitions", "start", "end") if ends else ("transitions",)
    return {n: rng.standard_normal((3, 3)[: 2 if n == "transitions" else 1]) * 2 for n in names}


def best_sequence(scores: Array, crf: dict[str, Array]) -> list[str]:
    """The best of all sequences, in float64."""

    def total(tags: tuple[int, ...]) -> float:
        own = sum(float(scores[t, k]) for t, k in enumerate(tags))
        between = sum(float(crf["transitions"][a, b]) for a, b in itertools.pairwise(tags))
        ends = crf["start"][tags[0]] + crf["end"][tags[-1]] if "start" in crf else 0.0
        return own + between + float(ends)

    best = max(itertools.product(range(3), repeat=len(scores)), key=total)
    return [LABELS[k] for k in best]


@pytest.mark.parametrize("kind", [INT64, INT32])
@pytest.mark.parametrize("ends", [True, False])
def test_a_conditional_random_field_finds_the_best_sequence(ends: bool, kind: Any) -> None:
    texts = [text for text in random_texts(40, longest=6) if text]
    greedy = [[LABELS[k] for k in scores_alone(t).argmax(1)] for t in texts]
    for seed in range(3):
        crf = field(seed, ends=ends)
        graph, text = attach_crf(tagger(kind), {**TEXT, "crf": crf})
        found = lightrnn.pipeline(dumps(ModelFile({"main": graph}, text)), 8)(texts)
        wanted = [best_sequence(scores_alone(t), crf) for t in texts]
        assert [f["tags"] for f in found] == wanted != greedy


def test_a_conditional_random_field_may_stand_behind_a_model_without_lengths() -> None:
    table = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
    graph = Graph(
        {"ids": TensorType(INT64, ("N", "T"))},
        {"logits": TensorType(FLOAT32, ("N", "T", 3))},
        (Node("Gather", ("table", "ids"), ("logits",), {"axis": 0}),),
        {"table": table},
    )
    crf = field(4)
    given = {k: v for k, v in TEXT.items() if k != "lengths"}
    decoded, text = attach_crf(graph, {**given, "crf": crf})
    texts = [text for text in random_texts(30, longest=6) if text]
    found = lightrnn.pipeline(dumps(ModelFile({"main": decoded}, text)), 8)(texts)
    assert [f["tags"] for f in found] == [best_sequence(table[ids_of(t)[0]], crf) for t in texts]


CRF: dict[str, Any] = {"transitions": np.zeros((3, 3)).tolist()}
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"crf": {}}, "crf lacks 'transitions'"),
    ({"crf": [1]}, "crf is [1], expected an object"),
    ({"crf": {"transitions": np.zeros((2, 3))}}, "has shape (2, 3), expected (3, 3)"),
    ({"crf": {**CRF, "start": [0.0]}}, "start of crf has shape (1,), expected (3,)"),
    ({"crf": {**CRF, "begin": [0.0] * 3}}, "crf has the unknown field 'begin'"),
    ({"crf": {"transitions": [["a"] * 3] * 3}}, "transitions of crf: "),
    ({"crf": {"transitions": [[1], [2, 3]]}}, "transitions of crf: "),
    ({"crf": {**CRF, "end": [0.0, float("nan"), 0.0]}}, "end of crf holds values that are not"),
    ({"crf": CRF, "task": "classification"}, "goes with the task 'tagging', not 'classification'"),
    ({"crf": CRF, "scores": "no"}, "no output 'no', the graph has logits"),
    ({"crf": CRF, "lengths": "no"}, "no input 'no', the graph has ids, lengths"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS)
def test_a_field_that_does_not_fit_is_one_clear_error(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConversionError, TextError)) as caught:
        attach_crf(tagger(), {**TEXT, **changes})
    assert message in str(caught.value)
