"""Text pipelines: what a file may say of text, tokens, order, padding, bounded memory."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import DataError, InputError, TextError
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Dim, Graph, Node, TensorType
from lightrnn.record import replace
from lightrnn.text import Task, Tokenizer, parse_task, parse_tokenizer
from lightrnn.text.batching import SMALL, batches

CHARACTERS = "abcdefghij "
LABELS = ["one", "two", "three"]
TEXT: dict[str, Any] = {
    "task": "classification",
    "tokenizer": {
        "kind": "characters",
        "characters": CHARACTERS,
        "lowercase": True,
        "normalization": "NFC",
        "padding_id": 0,
        "unknown_id": 1,
        "max_length": 40,
    },
    "labels": LABELS,
    "ids": "ids",
    "lengths": "lengths",
    "scores": "logits",
    "scores_are": "logits",
}


def text_with(**changes: Any) -> dict[str, Any]:
    """TEXT with fields changed, those of the tokenizer included; `...` removes one."""
    inner = TEXT["tokenizer"]
    text = {**TEXT, **{k: v for k, v in changes.items() if k not in inner}}
    if "tokenizer" not in changes:
        text["tokenizer"] = {**inner, **{k: v for k, v in changes.items() if k in inner}}
        text["tokenizer"] = {k: v for k, v in text["tokenizer"].items() if v is not ...}
    return {k: v for k, v in text.items() if v is not ...}


def classifier(
    *, lengths: bool = True, dtype: np.dtype[Any] = INT64, batch: Dim = "N", steps: Dim = "T"
) -> Graph:
    """ids [N, T], lengths [N] to logits [N, 3]: lookup, GRU, product."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    nodes = [
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}, "embedding"),
        Node("Transpose", ("rows",), ("x",), {"perm": (1, 0, 2)}),
        Node("GRU", ("x", "w", "r", "b"), ("", "last"), {"hidden_size": 6}, "gru"),
        Node("Squeeze", ("last", "zero"), ("flat",)),
        Node("MatMul", ("flat", "out"), ("logits",)),
    ]
    inputs = {"ids": TensorType(dtype, (batch, steps))}
    if lengths:
        inputs["lengths"] = TensorType(dtype, (batch,))
        nodes[2] = replace(nodes[2], inputs=("x", "w", "r", "b", "lens"))
        nodes.insert(0, Node("Cast", ("lengths",), ("lens",), {"to": 6}))
    constants = {
        "table": weights(len(CHARACTERS) + 2, 5), "w": weights(1, 18, 5), "r": weights(1, 18, 6),
        "b": weights(1, 36), "zero": np.array([0]), "out": weights(6, 3),
    }  # fmt: skip
    outputs = {"logits": TensorType(FLOAT32, (batch, 3))}
    return Graph(inputs, outputs, tuple(nodes), constants)


def model_of(graph: Graph | None = None, text: dict[str, Any] | None = None) -> bytes:
    return dumps(ModelFile({"main": classifier() if graph is None else graph}, text or TEXT))


def random_texts(count: int) -> list[str]:
    rng = np.random.default_rng(5)
    letters = list(CHARACTERS + "ABé!")
    return ["".join(rng.choice(letters, rng.integers(0, 60))) for _ in range(count)]


def alone(text: str) -> tuple[str, float]:
    """The answer for one text by itself, without the pipeline."""
    known = {c: k + 2 for k, c in enumerate(CHARACTERS)}
    ids = [known.get(c, 1) for c in text.lower()[:40]]
    if not ids:
        return "", 0.0
    model = lightrnn.load(model_of())
    logits = model.run({"ids": np.array([ids]), "lengths": np.array([len(ids)])})["logits"][0]
    powers = np.exp(logits.astype(np.float64))
    return LABELS[int(logits.argmax())], float(powers.max() / powers.sum())


def assert_answers(found: list[Any], texts: list[str]) -> None:
    wanted = [alone(text) for text in texts]
    assert [f["label"] for f in found] == [label for label, _ in wanted]
    np.testing.assert_allclose([f["score"] for f in found], [s for _, s in wanted], atol=1e-6)


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_answers_are_those_of_each_text_alone(lengths: bool, batch_size: int) -> None:
    texts = random_texts(90)
    assert len({alone(t)[0] for t in texts}) > 2
    data = model_of(classifier(lengths=lengths), text_with(lengths="lengths" if lengths else ...))
    assert_answers(lightrnn.pipeline(data, batch_size)(texts), texts)


def test_ids_and_lengths_have_the_dtype_of_the_model() -> None:
    texts = random_texts(10)
    assert_answers(lightrnn.pipeline(model_of(classifier(dtype=INT32)))(texts), texts)


@pytest.mark.parametrize(("batch", "steps"), [(1, "T"), (4, "T"), ("N", 48), (4, 40)])
def test_sizes_that_the_model_fixes_are_kept(batch: Dim, steps: Dim) -> None:
    texts = random_texts(11)
    assert_answers(lightrnn.pipeline(model_of(classifier(batch=batch, steps=steps)))(texts), texts)


def test_probabilities_are_told_as_they_are() -> None:
    texts = ["abc", "j"]
    logits = lightrnn.load(model_of(classifier(lengths=False)))(np.array([[11]]))
    found = lightrnn.pipeline(model_of(text=text_with(scores_are="probabilities")))(texts)
    assert isinstance(logits, np.ndarray)
    assert found[1]["score"] == pytest.approx(float(logits.max()), abs=1e-6)


def test_sources_may_be_paths_files_and_models(tmp_path: Path) -> None:
    path = tmp_path / "m.lrnn"
    path.write_bytes(model_of())
    sources = (path, str(path), model_of(), io.BytesIO(model_of()), lightrnn.load(path))
    for source in sources:
        assert_answers(lightrnn.pipeline(source)(["abc"]), ["abc"])
    with pytest.raises(InputError, match="loaded model"):
        lightrnn.pipeline(sources[-1], threads=1)
    with pytest.raises(InputError, match="batch_size is 0"):
        lightrnn.pipeline(path, batch_size=0)


def test_a_stream_reads_no_more_than_a_window() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for k in itertools.count():
            read += 1
            yield "abc"[: k % 4]

    stream = lightrnn.pipeline(model_of(), batch_size=4).stream(endless())
    assert read == 0
    found = list(itertools.islice(stream, 100))
    assert read <= 100 + 4 * 16
    assert_answers(found, ["abc"[: k % 4] for k in range(100)])
    one_by_one = lightrnn.pipeline(model_of(), batch_size=1).stream(endless())
    read = 0
    next(one_by_one)
    assert read == 1


def test_empty_texts_are_not_run() -> None:
    assert lightrnn.pipeline(model_of())(["", ""]) == [{"label": "", "score": 0.0}] * 2
    assert lightrnn.pipeline(model_of())([]) == []


@pytest.mark.parametrize("bad", [None, 3, b"abc"])
def test_what_is_not_text_is_refused_by_index(bad: Any) -> None:
    with pytest.raises(TextError, match=f"text 1 is a {type(bad).__name__}"):
        lightrnn.pipeline(model_of())(["abc", bad])


@pytest.mark.parametrize("bad", ["abc", b"abc"])
def test_one_text_is_not_a_list_of_texts(bad: Any) -> None:
    with pytest.raises(TextError, match="list or iterable"):
        lightrnn.pipeline(model_of()).stream(bad)


def test_scores_that_are_not_numbers_are_refused() -> None:
    graph = classifier()
    graph.constants["out"][:] = np.nan
    with pytest.raises(DataError, match="'logits'"):
        lightrnn.pipeline(model_of(graph))(["abc"])


def test_more_characters_than_embeddings_are_refused_when_met() -> None:
    pipe = lightrnn.pipeline(model_of(text=text_with(characters=CHARACTERS + "kl")))
    assert pipe(["a"])[0]["label"]
    with pytest.raises(DataError, match="embedding"):
        pipe(["l"])


def test_a_model_without_text_is_refused() -> None:
    with pytest.raises(TextError, match="does not say how it reads text"):
        lightrnn.pipeline(dumps(ModelFile({"main": classifier()})))


def tokenizer(characters: str, **fields: Any) -> Tokenizer:
    return parse_tokenizer({"kind": "characters", "characters": characters, **fields})


def test_ids_skip_those_that_are_taken() -> None:
    assert tokenizer("abc").encode("cabx") == [4, 2, 3, 1]
    assert tokenizer("abc", padding_id=1, unknown_id=3).encode("abcx") == [0, 2, 4, 3]
    assert tokenizer("abc", padding_id=0, unknown_id=0).encode("abcx") == [1, 2, 3, 0]


def test_text_is_normalized_then_lowered_then_cut() -> None:
    assert tokenizer("é", normalization="NFC").encode("e\u0301") == [2]
    assert tokenizer("é").encode("e\u0301") == [1, 1]
    assert tokenizer("e\u0301", normalization="NFD").encode("é") == [2, 3]
    assert tokenizer("a", normalization="NFKC", lowercase=True).encode("Ⓐ𝐀b") == [2, 2, 1]
    assert tokenizer("é", normalization="NFC", lowercase=True, max_length=1).encode("E\u0301x") == [
        2
    ]
    assert tokenizer("a").encode("A😀\ud800") == [1, 1, 1]


def test_batches_hold_each_position_once() -> None:
    lengths = [3, 0, 1, 3, 2, 3, 1]
    mixed = list(batches(lengths, 4, mixed=True))
    assert mixed == [[2, 6, 4, 0], [3, 5]]
    assert list(batches(lengths, 2, mixed=False)) == [[2, 6], [4], [0, 3], [5]]


def test_a_long_text_does_not_pad_the_others() -> None:
    lengths = [10] * 31 + [100_000]
    assert list(batches(lengths, 32, mixed=True)) == [list(range(31)), [31]]
    assert [len(b) for b in batches([30_000] * 5, 32, mixed=True)] == [2, 2, 1]
    assert [len(b) for b in batches([1, 5, 20, 40, 60], 32, mixed=True)] == [5]
    rng = np.random.default_rng(0)
    lengths = [1 + int(n) for n in rng.lognormal(4, 1.5, 500)]
    found = list(batches(lengths, 32, mixed=True))
    assert sorted(k for b in found for k in b) == list(range(500))
    for batch in found:
        real = sum(lengths[k] for k in batch)
        assert len(batch) * max(lengths[k] for k in batch) <= 2 * real + SMALL


@pytest.mark.parametrize("size", [1, 2, 32])
def test_an_error_comes_after_the_results_before_it(size: int) -> None:
    def texts() -> Iterator[str]:
        yield from ["abc", "", "de"]
        raise OSError("the disk is gone")

    stream = lightrnn.pipeline(model_of(), size).stream(texts())
    assert_answers(list(itertools.islice(stream, 3)), ["abc", "", "de"])
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


def parse(text: Any, graph: Graph) -> Task:
    """The task of a model of this graph that was not checked otherwise."""
    return parse_task(SimpleNamespace(text=text, graphs=("main",), graph=lambda name: graph))  # type: ignore[arg-type]


BAD = [
    (text_with(task="haiku"), "'task' of text is 'haiku', expected 'classification'"),
    (text_with(task=...), "text lacks 'task'"),
    (text_with(more=1), "text has the unknown field 'more'"),
    (text_with(tokenizer=[]), "'tokenizer' of text is \\[\\], expected an object"),
    (text_with(kind="runes"), "'kind' of tokenizer is 'runes', expected 'characters' or"),
    (text_with(characters=...), "tokenizer lacks 'characters'"),
    (text_with(characters=["a"]), "'characters' of tokenizer is \\['a'\\], expected a string"),
    (text_with(characters="abca"), "characters hold 'a' \\(U\\+0061\\) twice"),
    (text_with(tokenizer={**TEXT["tokenizer"], "x": 1}), "tokenizer has the unknown field 'x'"),
    (text_with(lowercase=1), "'lowercase' of tokenizer is 1, expected true or false"),
    (text_with(normalization="nfc"), "normalization is 'nfc', expected 'NFC' or"),
    (text_with(padding_id=-1), "'padding_id' of tokenizer is -1"),
    (text_with(padding_id=True), "'padding_id' of tokenizer is True, expected a whole number"),
    (text_with(unknown_id=2**31), "'unknown_id' of tokenizer is 2147483648"),
    (text_with(max_length=0), "'max_length' of tokenizer is 0"),
    (text_with(max_length="9"), "'max_length' of tokenizer is '9', expected a whole number"),
    (text_with(labels=[]), "'labels' of text is empty"),
    (text_with(labels="abc"), "'labels' of text is 'abc', expected a list"),
    (text_with(labels=["a", "b"]), "2 labels, but output 'logits' is float32\\[N, 3\\]"),
    (text_with(labels=["a", "b", 3]), "'labels' of text: 2 is 3"),
    (text_with(labels=["a", "b", ""]), "'labels' of text: 2 is ''"),
    (text_with(labels=["a", "b", "c\td"]), "'labels' of text: 'c\\\\td' holds a control character"),
    (text_with(labels=["a", "b", "\ud800"]), "holds a control character"),
    (text_with(labels=["a", "b", "a"]), "'labels' of text holds 'a' twice"),
    (text_with(ids="x"), "no input 'x', the graph has ids, lengths"),
    (text_with(ids="lengths", lengths="ids"), "input 'lengths' is int64\\[N\\], expected rank 2"),
    (text_with(lengths=None), "the model also has the input 'lengths'"),
    (text_with(scores="ids"), "no output 'ids', the graph has logits"),
    (
        text_with(scores_are="odds"),
        "'scores_are' of text is 'odds', expected 'logits' or 'probabilities'",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_description_is_one_clear_error(text: dict[str, Any], message: str) -> None:
    with pytest.raises(TextError, match=message):
        parse(text, classifier())


def test_what_a_description_leaves_out() -> None:
    text = text_with(
        lowercase=..., normalization=..., padding_id=..., unknown_id=..., max_length=...,
        lengths=...,
    )  # fmt: skip
    task = parse(text, classifier(lengths=False))
    assert task.encode("Ae\u0301" * 99) == [1, 6, 1] * 99
    assert not task.mixed


def test_descriptions_that_do_not_fit_the_graph() -> None:
    with pytest.raises(TextError, match="text is \\[\\], expected an object"):
        parse([], classifier())
    with pytest.raises(TextError, match="'ids' is float32\\[N, T\\], expected int64 or int32"):
        parse(TEXT, classifier(dtype=FLOAT32))
    with pytest.raises(TextError, match="max_length is 40, input 'ids' is int64\\[N, 20\\]"):
        parse(TEXT, classifier(steps=20))
    with pytest.raises(TextError, match="a fixed length, and the model takes none"):
        parse(text_with(lengths=None), classifier(lengths=False, steps=40))
    graph = classifier()
    wide = replace(graph, outputs={"logits": TensorType(FLOAT32, ("N", "T", 3))})
    with pytest.raises(TextError, match="expected rank 2"):
        parse(TEXT, wide)
    other = replace(graph, inputs={**graph.inputs, "h0": TensorType(FLOAT32, ("N", 6))})
    with pytest.raises(TextError, match="also has the input 'h0'"):
        parse(TEXT, other)
