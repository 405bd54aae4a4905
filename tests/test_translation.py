"""Translation against a naive loop over the encoder and the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import InputError, TextError
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType
from lightrnn.record import replace
from lightrnn.text import Pipeline
from lightrnn.text.decoding.beam import Search
from tests.test_decoding import BEGIN, END, VOCABULARY, naive_search

CHARACTERS = "abcdef"
WORDS = ["V", "W", "X", "Y", "Z"]
FIRST_WORD = 2
HIDDEN, LONGEST = 6, 9
TEXT: dict[str, Any] = {
    "task": "translation",
    "tokenizer": {"kind": "characters", "characters": CHARACTERS},
    "target": {
        "kind": "words", "words": WORDS, "begin_id": BEGIN, "end_id": END,
    },
    "ids": "ids",
    "lengths": "lengths",
    "decoder": {
        "token": "token", "logits": "logits", "attention": "weights",
        "sources": {"hidden": "last", "memory": "memory", "sizes": "lengths"},
    },
    "max_length": LONGEST,
}  # fmt: skip
RNG = np.random.default_rng(8)
CONSTANTS = {
    name: RNG.standard_normal(shape).astype(np.float32)
    for name, shape in {
        "table": (len(CHARACTERS) + 2, 5), "w": (1, 3 * HIDDEN, 5), "r": (1, 3 * HIDDEN, HIDDEN),
        "tokens": (VOCABULARY, HIDDEN), "own": (HIDDEN, HIDDEN), "seen": (HIDDEN, VOCABULARY),
        "out": (HIDDEN, VOCABULARY),
    }.items()
}  # fmt: skip
NUMBERS = {
    "zero": np.array(0), "one": np.array(1), "first": np.array([0]), "second": np.array([1]),
    "third": np.array([2]), "low": np.array(-1e9, np.float32),
}  # fmt: skip


def constants(nodes: Sequence[Node]) -> dict[str, Array]:
    used = {name for node in nodes for name in node.inputs}
    return {n: v for n, v in {**CONSTANTS, **NUMBERS}.items() if n in used}


def encoder() -> Graph:
    """ids [N, S], lengths [N] to memory [N, S, H] and last [N, H]: lookup, GRU."""
    nodes = (
        Node("Cast", ("lengths",), ("lens",), {"to": 6}),
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}),
        Node("Transpose", ("rows",), ("x",), {"perm": (1, 0, 2)}),
        Node("GRU", ("x", "w", "r", "", "lens"), ("y", "h"), {"hidden_size": HIDDEN}),
        Node("Squeeze", ("y", "second"), ("flat",)),
        Node("Transpose", ("flat",), ("memory",), {"perm": (1, 0, 2)}),
        Node("Squeeze", ("h", "first"), ("last",)),
    )
    inputs = {"ids": TensorType(INT64, ("N", "S")), "lengths": TensorType(INT64, ("N",))}
    outputs = {
        "memory": TensorType(FLOAT32, ("N", "S", HIDDEN)),
        "last": TensorType(FLOAT32, ("N", HIDDEN)),
    }
    return Graph(inputs, outputs, nodes, constants(nodes))


def decoder() -> Graph:
    """hidden = tanh(token + hidden @ own); weights = softmax(memory @ hidden), masked."""
    nodes = (
        Node("Gather", ("tokens", "token"), ("row",), {"axis": 0}),
        Node("MatMul", ("hidden", "own"), ("kept",)),
        Node("Add", ("row", "kept"), ("sum",)),
        Node("Tanh", ("sum",), ("next",)),
        Node("Unsqueeze", ("next", "third"), ("query",)),
        Node("MatMul", ("memory", "query"), ("raw",)),
        Node("Squeeze", ("raw", "third"), ("scores",)),
        Node("Shape", ("memory",), ("steps",), {"start": 1, "end": 2}),
        Node("Squeeze", ("steps", "first"), ("count",)),
        Node("Range", ("zero", "count", "one"), ("places",)),
        Node("Unsqueeze", ("sizes", "second"), ("bound",)),
        Node("Less", ("places", "bound"), ("inside",)),
        Node("Where", ("inside", "scores", "low"), ("masked",)),
        Node("Softmax", ("masked",), ("weights",), {"axis": 1}),
        Node("Unsqueeze", ("weights", "second"), ("wide",)),
        Node("MatMul", ("wide", "memory"), ("mean",)),
        Node("Squeeze", ("mean", "second"), ("context",)),
        Node("MatMul", ("context", "seen"), ("from_source",)),
        Node("MatMul", ("next", "out"), ("from_state",)),
        Node("Add", ("from_source", "from_state"), ("logits",)),
    )
    inputs = {
        "token": TensorType(INT64, ("N",)), "hidden": TensorType(FLOAT32, ("N", HIDDEN)),
        "memory": TensorType(FLOAT32, ("N", "S", HIDDEN)), "sizes": TensorType(INT64, ("N",)),
    }  # fmt: skip
    outputs = {
        "logits": TensorType(FLOAT32, ("N", VOCABULARY)),
        "next": TensorType(FLOAT32, ("N", HIDDEN)),
        "weights": TensorType(FLOAT32, ("N", "S")),
    }
    return Graph(inputs, outputs, nodes, constants(nodes), states={"hidden": "next"})


GRAPHS = {"encoder": encoder(), "decoder": decoder()}


def text_with(**changes: Any) -> dict[str, Any]:
    """TEXT with fields changed, those of the decoder included; None removes one."""
    inner = {k: v for k, v in changes.items() if k in TEXT["decoder"]}
    outer = {k: v for k, v in changes.items() if k not in TEXT["decoder"]}
    text = {**TEXT, **outer}
    if isinstance(text.get("decoder"), dict):
        text["decoder"] = {k: v for k, v in {**text["decoder"], **inner}.items() if v is not None}
    return {k: v for k, v in text.items() if v is not None}


def pipe(batch_size: int = 32, text: dict[str, Any] = TEXT, **options: Any) -> Pipeline:
    return lightrnn.pipeline(dumps(ModelFile(GRAPHS, text)), batch_size, **options)


class Alone:
    """One text by itself; every prefix is run from its first token."""

    model = lightrnn.load(dumps(ModelFile(GRAPHS)))

    def __init__(self, text: str) -> None:
        known = {c: k + 2 for k, c in enumerate(CHARACTERS)}
        feeds = {"ids": np.array([[known.get(c, 1) for c in text]]), "sizes": np.array([len(text)])}
        found = self.model.run({"ids": feeds["ids"], "lengths": feeds["sizes"]}, graph="encoder")
        self.feeds = {"memory": found["memory"], "sizes": feeds["sizes"]}
        self.first = found["last"]

    def steps(self, tokens: Sequence[int]) -> list[tuple[Array, Array]]:
        """Log-probabilities [V] and attention [S] after each token."""
        hidden, steps = self.first, []
        for token in tokens:
            feeds = {**self.feeds, "token": np.array([token]), "hidden": hidden}
            found = self.model.run(feeds, graph="decoder")
            hidden, logits = found["next"], found["logits"][0].astype(np.float64)
            logits[BEGIN] = -np.inf  # no text holds it
            steps.append((logits - np.log(np.exp(logits).sum()), found["weights"][0]))
        return steps

    def scores(self, prefix: tuple[int, ...]) -> Array:
        """As `naive_search` asks for them: the text's number, then the tokens."""
        return self.steps(prefix[1:])[-1][0]

    def greedy(self) -> tuple[list[int], float]:
        """The likeliest token again and again, and the score a token."""
        tokens, total = [BEGIN], 0.0
        for _ in range(LONGEST):
            scores = self.scores((0, *tokens))
            token = int(scores.argmax())
            total += float(scores[token])
            if token == END:
                return tokens[1:], total / len(tokens)
            tokens.append(token)
        scores = self.scores((0, *tokens))
        if scores.argmax() == END:
            return tokens[1:], (total + float(scores[END])) / len(tokens)
        return tokens[1:], total / (len(tokens) - 1)


def shown(tokens: Sequence[int]) -> str:
    """Words of tokens."""
    return " ".join(WORDS[t - FIRST_WORD] for t in tokens)


def texts(count: int = 40) -> list[str]:
    rng = np.random.default_rng(1)
    return ["".join(rng.choice(list(CHARACTERS + "?"), rng.integers(1, 21))) for _ in range(count)]


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_greedy_decoding_is_that_of_each_text_alone(batch_size: int) -> None:
    wanted = [Alone(text).greedy() for text in texts()]
    lengths = {len(tokens) for tokens, _ in wanted}
    assert LONGEST in lengths
    assert len(lengths) > 2
    found = pipe(batch_size)(texts())
    assert [f["text"] for f in found] == [shown(tokens) for tokens, _ in wanted]
    np.testing.assert_allclose([f["score"] for f in found], [s for _, s in wanted], atol=1e-5)


@pytest.mark.parametrize(("beam", "penalty"), [(2, 1.0), (4, 0.6), (4, 0.0)])
def test_beam_search_is_that_of_each_text_alone(beam: int, penalty: float) -> None:
    some = texts(12)
    search = Search(beam, penalty, n_best=beam, max_length=5)
    found = pipe(
        batch_size=5, beam=beam, length_penalty=penalty, n_best=beam, max_length=5
    )(some)  # fmt: skip
    for text, result in zip(some, found, strict=True):
        wanted = naive_search(Alone(text), 0, search)  # type: ignore[arg-type]
        assert [one["text"] for one in result["n_best"]] == [shown(tokens) for tokens, _ in wanted]
        scores = [one["score"] for one in result["n_best"]]
        np.testing.assert_allclose(scores, [s for _, s in wanted], atol=1e-5)
        assert (result["text"], result["score"]) == (shown(wanted[0][0]), scores[0])


@pytest.mark.parametrize("beam", [1, 3])
def test_attention_is_over_the_source_at_each_token(beam: int) -> None:
    some = texts(15)
    for text, result in zip(some, pipe(attention=True, beam=beam)(some), strict=True):
        assert result["source"] == list(text)
        tokens = [FIRST_WORD + WORDS.index(w) for w in result["target"]]
        assert shown(tokens) == result["text"]
        attention = np.array(result["attention"]).reshape(len(tokens), len(text))
        np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-5)
        wanted = [row for _, row in Alone(text).steps([BEGIN, *tokens[:-1]])][: len(tokens)]
        np.testing.assert_allclose(attention, np.array(wanted).reshape(attention.shape), atol=1e-5)


def test_a_source_s_ends_are_attended_to_as_empty_pieces() -> None:
    source = {**TEXT["tokenizer"], "begin_id": 1, "end_id": 0}
    found = pipe(text=text_with(tokenizer=source), attention=True)(texts())
    assert [r["source"] for r in found] == [["", *text, ""] for text in texts()]
    lengths = [(len(r["source"]), len(row)) for r in found for row in r["attention"]]
    assert lengths
    assert all(a == b for a, b in lengths)


def test_an_empty_text_has_an_empty_answer() -> None:
    found = pipe(beam=2, n_best=2)(["", "ab", ""])
    assert found[0] == found[2] == {"text": "", "score": 0.0, "n_best": []}
    assert len(found[1]["n_best"]) == 2


@pytest.mark.parametrize("options", [{}, {"attention": True}, {"n_best": 2, "beam": 2}])
def test_an_empty_text_s_answer_has_the_keys_of_others(options: dict[str, Any]) -> None:
    empty, other = pipe(**options)(["", "ab"])
    assert empty.keys() == other.keys()


def blind_decoder() -> Graph:
    """The decoder without sizes: what lies beyond a text is attended to."""
    blind = replace(
        decoder(),
        inputs={k: v for k, v in decoder().inputs.items() if k != "sizes"},
        nodes=tuple(
            replace(n, inputs=("scores",)) if n.op == "Softmax" else n
            for n in decoder().nodes
            if n.op not in ("Where", "Less", "Range", "Shape") and n.outputs[0] not in
            ("count", "bound")
        ),
    )  # fmt: skip
    return replace(blind, constants=constants(blind.nodes))


def test_texts_are_not_padded_where_the_decoder_does_not_know_their_lengths() -> None:
    text = text_with(sources={"hidden": "last", "memory": "memory"})
    file = ModelFile({"encoder": encoder(), "decoder": blind_decoder()}, text)
    wanted = [Alone(text).greedy() for text in texts()]
    found = lightrnn.pipeline(dumps(file))(texts())
    assert [f["text"] for f in found] == [shown(tokens) for tokens, _ in wanted]


def test_a_fixed_length_needs_a_decoder_that_takes_lengths() -> None:
    kinds = {"ids": TensorType(INT64, ("N", 20)), "lengths": TensorType(INT64, ("N",))}
    fixed = replace(encoder(), inputs=kinds)
    source = {**TEXT["tokenizer"], "max_length": 20}
    text = text_with(tokenizer=source)
    found = lightrnn.pipeline(dumps(ModelFile({**GRAPHS, "encoder": fixed}, text)))(texts())
    assert [f["text"] for f in found] == [shown(Alone(text).greedy()[0]) for text in texts()]
    blind = {"encoder": fixed, "decoder": blind_decoder()}
    text["decoder"] = {**text["decoder"], "sources": {"hidden": "last", "memory": "memory"}}
    with pytest.raises(TextError, match="the decoder needs their lengths"):
        lightrnn.pipeline(dumps(ModelFile(blind, text)))


SOURCES: dict[str, str] = TEXT["decoder"]["sources"]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"target": {k: v for k, v in TEXT["target"].items() if k != "end_id"}}, "target lacks 'end_i"),
    ({"target": {**TEXT["target"], "kind": "word"}}, "'kind' of target is 'word'"),
    ({"sources": {**SOURCES, "hidden": "no"}}, "'hidden': the encoder has no tensor 'no'"),
    ({"sources": {**SOURCES, "no": "last"}}, "the decoder has no other input 'no'"),
    ({"sources": {**SOURCES, "token": "lengths"}}, "the decoder has no other input 'token'"),
    ({"sources": {**SOURCES, "sizes": "last"}}, "decoder input 'sizes' is int64"),
    ({"sources": {"hidden": "last", "sizes": "lengths"}}, "feeds the decoder's input 'memory'"),
    ({"sources": {**SOURCES, "memory": 3}}, "the encoder has no tensor 3"),
    ({"token": "no"}, "no input 'no'"),
    ({"logits": "no"}, "no output 'no', the graph has logits, next, weights"),
    ({"attention": "no"}, "no output 'no', the graph has logits, next, weights"),
    ({"logits": None}, "decoder lacks 'logits'"),
    ({"decoder": {**TEXT["decoder"], "memory": "m"}}, "decoder has the unknown field 'memory'"),
    ({"decoder": "decoder"}, "'decoder' of text is 'decoder', expected an object"),
    ({"max_length": 0}, "'max_length' of text is 0, expected 1 or more"),
    ({"lengths": None}, "also has the input 'lengths'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_a_bad_description_is_one_clear_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TextError) as caught:
        pipe(text=text_with(**changes))
    assert message in str(caught.value)


def test_a_file_without_a_decoder_is_refused() -> None:
    with pytest.raises(TextError, match="no graph 'decoder', the file has encoder"):
        lightrnn.pipeline(dumps(ModelFile({"encoder": encoder()}, TEXT)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam is 0"),
        ({"n_best": 2}, "more than the beam of 1"),
        ({"max_length": 0}, "max_length is 0"),
        ({"temperature": 1.0}, "no option 'temperature'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(**options)


def test_attention_of_a_decoder_without_any_is_refused() -> None:
    with pytest.raises(InputError, match="no attention to return"):
        pipe(text=text_with(attention=None), attention=True)
