"""Generation: drawn as the model says, repeatable by seed, state carried, one clear error."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import DataError, InputError, TextError
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, INT64, Array, Dim, Graph, Node, TensorType
from lightrnn.record import replace
from lightrnn.text import Pipeline, parse_tokenizer

LETTERS = "abcde"
BEGIN, END = 2, 3
COUNT = 4 + len(LETTERS)
"""Ids: padding, unknown, begin, end, and the letters from 4 on."""

LABELS = ["French", "Greek"]
WIDTH, HIDDEN = 5, 7


def weights(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def generator(
    *,
    condition: bool = True,
    batch: Dim = "N",
    every_step: bool = True,
    end: float = 0.0,
    origin: str = "",
) -> Graph:
    """ids [N, T], category [N], h0 to logits [N, T, V], or [N, V] of the last step, and h.

    Embedding, the category's embedding added at each step, GRU, product. end: added to the logit
    of END.
    """
    bias = np.zeros(COUNT, np.float32)
    bias[END] = end
    nodes = [
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}, "embedding"),
        Node("GRU", ("x", "w", "r", "b", "", "h0"), ("y", "h"), {"hidden_size": HIDDEN}),
        Node("Squeeze", ("y", "one"), ("steps",)),
        Node("Transpose", ("steps",), ("by_text",), {"perm": (1, 0, 2)}),
        Node("MatMul", ("by_text", "out"), ("products",)),
        Node("Add", ("products", "bias"), ("logits",)),
    ]
    inputs = {"ids": TensorType(INT64, (batch, "T"))}
    joined = "rows"
    if condition:
        inputs["category"] = TensorType(INT64, (batch,))
        nodes[1:1] = [
            Node("Gather", ("labels", "category"), ("flat",), {"axis": 0}),
            Node("Unsqueeze", ("flat", "one"), ("label",)),
            Node("Add", ("rows", "label"), ("joined",)),
        ]
        joined = "joined"
    nodes.insert(-5, Node("Transpose", (joined,), ("x",), {"perm": (1, 0, 2)}))
    shape: tuple[Dim, ...] = (batch, "T", COUNT)
    if not every_step:
        nodes[-1] = Node("Add", ("products", "bias"), ("all",))
        nodes.append(Node("Gather", ("all", "last"), ("logits",), {"axis": 1}))
        shape = (batch, COUNT)
    inputs["h0"] = TensorType(FLOAT32, (1, batch, HIDDEN))
    outputs = {"logits": TensorType(FLOAT32, shape), "h": TensorType(FLOAT32, (1, batch, HIDDEN))}
    constants = {
        "table": weights(1, COUNT, WIDTH), "labels": 2 * weights(2, len(LABELS), WIDTH),
        "w": weights(3, 1, 3 * HIDDEN, WIDTH), "r": weights(4, 1, 3 * HIDDEN, HIDDEN),
        "b": weights(5, 1, 6 * HIDDEN), "out": 0.6 * weights(6, HIDDEN, COUNT), "bias": bias,
        "one": np.array([1]), "last": np.array(-1),
    }  # fmt: skip
    return Graph(inputs, outputs, tuple(nodes), constants, {"h0": "h"})


def text_of(*, condition: bool = True, **tokenizer: Any) -> dict[str, Any]:
    text: dict[str, Any] = {
        "task": "generation",
        "tokenizer": {
            "kind": "characters", "characters": LETTERS, "begin_id": BEGIN, "end_id": END,
            **tokenizer,
        },
        "ids": "ids",
        "logits": "logits",
    }  # fmt: skip
    if condition:
        text["condition"] = {"input": "category", "labels": LABELS}
    return text


def pipe(graph: Graph | None = None, text: Any = None, batch_size: int = 32, **options: Any) -> Any:
    file = ModelFile({"main": generator() if graph is None else graph}, text or text_of())
    return lightrnn.pipeline(dumps(file), batch_size, **options)


class Oracle:
    """The same model in float64, written from ONNX's GRU: what follows a label and letters."""

    def __init__(self, graph: Graph) -> None:
        self.c = {k: v.astype(np.float64) for k, v in graph.constants.items() if v.ndim}

    def probabilities(self, label: str, letters: str) -> Array:
        """Of the tokens that texts may hold, float64 [V]."""
        h = np.zeros(HIDDEN)
        for token in [BEGIN, *ids_of(letters)]:
            h = self._step(self.c["table"][token] + self.c["labels"][LABELS.index(label)], h)
        logits = h @ self.c["out"] + self.c["bias"]
        logits[:END] = -np.inf
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())

    def _step(self, x: Array, h: Array) -> Array:
        w, r = np.split(self.c["w"][0], 3), np.split(self.c["r"][0], 3)
        b = np.split(self.c["b"][0], 6)
        z, reset = (1 / (1 + np.exp(-(w[k] @ x + r[k] @ h + b[k] + b[k + 3]))) for k in (0, 1))
        new = np.tanh(w[2] @ x + r[2] @ (reset * h) + b[2] + b[5])
        return np.asarray((1 - z) * new + z * h)

    def greedy(self, label: str, prompt: str, length: int) -> str:
        """The most likely letter again and again."""
        text = prompt
        for _ in range(length):
            best = int(self.probabilities(label, text).argmax())
            if best == END:
                break
            text += LETTERS[best - 4]
        return text


ORACLE = Oracle(generator())
ENDLESS = generator(end=-1e9)


def ids_of(letters: str) -> list[int]:
    return [4 + LETTERS.index(c) for c in letters]


def steps_of(text: str, prompt: str, length: int) -> list[tuple[str, int]]:
    """What stood before each token that was drawn, and the token; END where there was room."""
    drawn = [*ids_of(text[len(prompt) :]), *([END] if len(text) - len(prompt) < length else [])]
    return [(text[: len(prompt) + k], token) for k, token in enumerate(drawn)]


def chi_square(counts: Counter[str], wanted: dict[str, float]) -> float:
    total = counts.total()
    assert set(counts) <= set(wanted)
    assert min(wanted.values()) * total > 5
    return sum((counts[k] - total * p) ** 2 / (total * p) for k, p in wanted.items())


@pytest.mark.parametrize("label", LABELS)
def test_first_tokens_are_drawn_as_the_model_says(label: str) -> None:
    found = Counter(r["text"] for r in pipe(length=1)([label] * 3000))
    p = ORACLE.probabilities(label, "")
    wanted = {"": p[END], **{c: p[4 + k] for k, c in enumerate(LETTERS)}}
    assert chi_square(found, wanted) < 20.5  # the quantile 0.999 for 5 degrees of freedom


def test_second_tokens_are_drawn_given_the_first() -> None:
    found = Counter(r["text"] for r in pipe(length=2)(["Greek"] * 4000))
    first = ORACLE.probabilities("Greek", "")
    wanted = {"": float(first[END])}
    for a in LETTERS:
        second = ORACLE.probabilities("Greek", a)
        wanted[a] = float(first[ids_of(a)[0]] * second[END])
        wanted |= {a + b: float(first[ids_of(a)[0]] * second[ids_of(b)[0]]) for b in LETTERS}
    assert chi_square(found, wanted) < 59.7  # the quantile 0.999 for 30 degrees of freedom


TEXTS = ["French", "Greek\tab", "", "Greek", "French\tdeed", "French\tb", "French\t", "Greek\tcc"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_a_seed_gives_the_same_texts_whatever_the_batch(batch_size: int) -> None:
    texts = TEXTS * 5
    first = pipe(seed=7, length=12)(texts)
    again = pipe(seed=7, length=12, batch_size=batch_size)
    for _ in range(2):
        found = again(texts)
        assert [r["text"] for r in found] == [r["text"] for r in first]
        np.testing.assert_allclose([r["score"] for r in found], [r["score"] for r in first], 1e-5)
    other = pipe(seed=8, length=12)(texts)
    assert sum(a["text"] != b["text"] for a, b in zip(first, other, strict=True)) > 20


def test_what_is_drawn_for_a_text_depends_on_its_place_alone() -> None:
    found = pipe(length=12)(["French"] * 20)
    assert len({r["text"] for r in found}) > 10
    others = pipe(length=12)([*["Greek\tabc"] * 10, *["French"] * 10])
    assert [r["text"] for r in others[10:]] == [r["text"] for r in found[10:]]


def test_texts_end_at_the_end_token_or_at_their_length() -> None:
    found = [r["text"] for r in pipe(length=4)(["French\tab"] * 60)]
    assert {len(t) for t in found} == {2, 3, 4, 5, 6}
    assert {len(r["text"]) for r in pipe(ENDLESS, length=17)(["French\tab"] * 9)} == {19}
    assert {len(r["text"]) for r in pipe(ENDLESS)(["French"] * 3)} == {100}


@pytest.mark.parametrize("stop", ["a", "ed", "\t"])
def test_texts_end_with_what_stops_them(stop: str) -> None:
    free = [r["text"] for r in pipe(ENDLESS, length=30)(["Greek\taed"] * 20)]
    stopped = [r["text"] for r in pipe(ENDLESS, length=30, stop=stop)(["Greek\taed"] * 20)]
    for whole, text in zip(free, stopped, strict=True):
        place = whole.find(stop, 3)
        assert text == (whole if place < 0 else whole[: place + len(stop)])
    assert (stopped == free) == (stop == "\t")


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}])
def test_the_most_likely_tokens(options: dict[str, Any]) -> None:
    begun = [("French", ""), ("Greek", ""), ("Greek", "bad"), ("French", "dab")]
    texts = [f"{label}\t{prompt}" for label, prompt in begun]
    found = [r["text"] for r in pipe(ENDLESS, length=15, **options)(texts)]
    assert found == [Oracle(ENDLESS).greedy(label, prompt, 15) for label, prompt in begun]
    assert len({text[-12:] for text in found}) > 1


def test_tokens_come_from_the_likeliest_ones() -> None:
    ranks: set[int] = set()
    for r in pipe(length=8, top_k=2)(["French"] * 40):
        for before, token in steps_of(r["text"], "", 8):
            order = np.argsort(-ORACLE.probabilities("French", before))
            ranks.add(int(np.flatnonzero(order == token)[0]))
    assert ranks == {0, 1}
    for r in pipe(length=8, top_p=0.7)(["French"] * 40):
        for before, token in steps_of(r["text"], "", 8):
            p = ORACLE.probabilities("French", before)
            assert p[p > p[token]].sum() < 0.7


def test_the_score_is_the_probability_of_what_was_added() -> None:
    for prompt in ("", "bad"):
        found = pipe(length=6, temperature=1.7, top_k=4)([f"French\t{prompt}"] * 20)
        for r in found:
            steps = steps_of(r["text"], prompt, 6)
            wanted = sum(np.log(ORACLE.probabilities("French", b)[t]) for b, t in steps)
            assert r["score"] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("every_step", [True, False])
def test_a_prompt_goes_on_as_the_whole_text_would(
    every_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[tuple[int, ...]] = []
    step = lightrnn.model.Stream.step

    def recorded(stream: Any, inputs: Any) -> Any:
        fed.append(inputs["ids"].shape)
        return step(stream, inputs)

    monkeypatch.setattr(lightrnn.model.Stream, "step", recorded)
    graph = generator(end=-1e9, every_step=every_step)
    prompt = "deadbeadcab"
    found = pipe(graph, length=9, temperature=0)([f"French\t{prompt}", f"Greek\t{prompt}"])
    assert [r["text"] for r in found] == [Oracle(graph).greedy(k, prompt, 9) for k in LABELS]
    assert fed == [(2, 1 + len(prompt)), *[(2, 1)] * 8]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_sizes_that_the_model_fixes_are_kept(batch: int, count: int) -> None:
    texts = (TEXTS * 2)[:count]
    found = pipe(generator(batch=batch), length=9)(texts)
    assert [r["text"] for r in found] == [r["text"] for r in pipe(length=9)(texts)]


def test_a_model_without_a_condition() -> None:
    graph = generator(condition=False)
    found = pipe(graph, text_of(condition=False), length=5)(["ab", "", "French"])
    assert found[0]["text"].startswith("ab")
    assert found[1] == {"text": "", "score": 0.0}
    assert found[2]["text"].startswith("French")


def test_an_empty_line_gives_an_empty_result() -> None:
    assert pipe()([""]) == [{"text": "", "score": 0.0}]


def test_the_prompt_stays_as_it_was_written() -> None:
    text = text_of(lowercase=True)
    texts = ["French\tAB", "French\tab", "French\taXb", "French\tXX"]
    found = [r["text"] for r in pipe(text=text, length=5, temperature=0)(texts)]
    assert found[0] == "AB" + found[1][2:]
    assert [t[:3] for t in found[2:]] == ["aXb", "XX" + found[3][2:3]]


WORDS = {
    "kind": "words", "words": list(LETTERS), "begin_id": BEGIN, "end_id": END,
}  # fmt: skip


@pytest.mark.parametrize("prompt", ["a b", "A b", "X", "a b "])
def test_words_are_joined_to_the_prompt(prompt: str) -> None:
    text = {**text_of(), "tokenizer": {**WORDS, "lowercase": True}}
    (found,) = pipe(ENDLESS, text, length=3, temperature=0)([f"French\t{prompt}"])
    assert found["text"].startswith(prompt.rstrip() + " ")
    assert len(found["text"].split()) == len(prompt.split()) + 3


def test_pieces_of_words_are_joined_as_their_tokenizer_does() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 1, "a": 4, "##b": 5, "c": 6, "##d": 7, "e": 8}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.decoder = tokenizers.decoders.WordPiece()
    tokenizer = parse_tokenizer({"kind": "huggingface", "json": made.to_str(), "lowercase": True})
    assert tokenizer.ids("A cd") == [4, 6, 7]
    assert tokenizer.continued("A cd", [4, 6, 7], [5, 8]) == "A cdb e"
    assert tokenizer.continued("A", [4], []) == "A"


def test_padding_unknown_and_begin_are_never_drawn() -> None:
    graph = generator(end=-1e9)
    graph.constants["bias"][:END] = 50.0
    found = pipe(graph, length=20)(["French"] * 10)
    assert {len(r["text"]) for r in found} == {20}


def test_ids_that_have_a_text_are_drawn() -> None:
    graph = generator(condition=False)
    graph.constants["bias"][:2] = 50.0
    text = text_of(condition=False)
    text["tokenizer"] = {"kind": "bytes", "first_id": 0}
    (found,) = pipe(graph, text, length=20)(["\x04"])
    assert set(found["text"][1:]) == {"\x00", "\x01"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_numbers_are_refused(bad: float) -> None:
    graph = generator()
    graph.constants["bias"][5] = bad
    with pytest.raises(DataError, match="'logits'"):
        pipe(graph)(["French"])


@pytest.mark.parametrize("text", ["German", "french", "\tab", "French ab", "French,Greek"])
def test_a_condition_that_is_not_known_is_refused_by_index(text: str) -> None:
    with pytest.raises(TextError, match=r"text 1: .* is not one of French, Greek"):
        pipe()(["French", text])


def test_nothing_to_begin_with_is_refused_by_index() -> None:
    text = text_of(begin_id=None)
    assert pipe(text=text, length=3)(["French\ta"])[0]["text"].startswith("a")
    with pytest.raises(TextError, match="text 1 has no tokens, and the model no begin_id"):
        pipe(text=text)(["French\ta", "French"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"beam": 3}, "no option 'beam', the task has length, temperature"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(**options)


def without_states(graph: Graph) -> Graph:
    """The same with zeros for the initial state, and no state for the caller."""
    inputs = {k: v for k, v in graph.inputs.items() if k != "h0"}
    outputs = {k: v for k, v in graph.outputs.items() if k != "h"}
    nodes = tuple(
        replace(n, inputs=n.inputs[:4], outputs=("y",), attrs={**n.attrs, "direction": "reverse"})
        if n.op == "GRU"
        else n
        for n in graph.nodes
    )
    return Graph(inputs, outputs, nodes, graph.constants)


BAD: list[tuple[Graph, dict[str, Any], str]] = [
    (generator(), text_of(condition=False), "also has the input 'category'"),
    (generator(condition=False), text_of(), "no input 'category', the graph has ids, h0"),
    (generator(), {**text_of(), "logits": "scores"}, "no output 'scores', the graph has logits, h"),
    (generator(), {**text_of(), "ids": "category"}, "'category' is int64.N., expected rank 2"),
    (generator(), {**text_of(), "lengths": "lengths"}, "text has the unknown field 'lengths'"),
    (
        generator(),
        {**text_of(), "condition": {"input": "category"}},
        "condition lacks 'labels'",
    ),
    (
        generator(),
        {**text_of(), "condition": {"input": "ids", "labels": LABELS}},
        "'ids' is int64.N, T., expected rank 1",
    ),
    (
        generator(),
        {**text_of(), "condition": {"input": "category", "labels": LABELS, "more": 1}},
        "condition has the unknown field 'more'",
    ),
    (
        replace(generator(), states={}),
        text_of(),
        "also has the input 'h0'",
    ),
    (without_states(generator()), text_of(), "carries no state from one token to the next"),
]


@pytest.mark.parametrize(("graph", "text", "message"), BAD, ids=[b[2] for b in BAD])
def test_a_description_that_does_not_fit_is_one_clear_error(
    graph: Graph, text: dict[str, Any], message: str
) -> None:
    with pytest.raises(TextError, match=message):
        pipe(graph, text)


def test_a_task_is_shown_as_its_text() -> None:
    task = Pipeline(lightrnn.load(dumps(ModelFile({"main": generator()}, text_of())))).task
    assert task.show({"text": "abc", "score": -1.0}) == "abc"
    assert task.row({"text": "abc", "score": -1.0}) == ["abc", "-1.000000"]
    assert task.row(task.empty()) == [""]
