"""The task ctc: against all paths of each text alone, whatever shares its batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import DataError, InputError, TextError
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Graph, Node, TensorType
from lightrnn.record import replace
from lightrnn.text.tasks.ctc import CTC
from tests.command import failure, lightrnn_command
from tests.test_decoding import all_paths
from tests.test_tagging import CHARACTERS, random_texts, scores_alone, tagger
from tests.text_models import written

LABELS = ["x", "yy", "_"]
BLANK = 2
FEATURES = 5
TEXT: dict[str, Any] = {
    "task": "ctc",
    "tokenizer": {"kind": "characters", "characters": CHARACTERS},
    "labels": LABELS,
    "blank": "_",
    "joiner": "-",
    "ids": "ids",
    "lengths": "lengths",
    "scores": "logits",
}
TEXTS = random_texts(60, longest=20)
SHORT = [text for text in random_texts(20, longest=6) if text]


def with_text(graph: Graph, **changes: Any) -> bytes:
    """A file of a graph and of TEXT with fields changed; None removes one."""
    text = {k: v for k, v in {**TEXT, **changes}.items() if v is not None}
    return dumps(ModelFile({"main": graph}, text))


def from_features() -> Graph:
    """The tagger behind its table: features [N, T, 5] instead of ids."""
    graph = tagger()
    nodes = tuple(
        replace(node, inputs=("features",)) if "rows" in node.inputs else node
        for node in graph.nodes
        if node.op != "Gather"
    )
    constants = {name: value for name, value in graph.constants.items() if name != "table"}
    kind = TensorType(FLOAT32, ("N", "T", FEATURES))
    inputs = {"features": kind, "lengths": graph.inputs["lengths"]}
    return replace(graph, inputs=inputs, nodes=nodes, constants=constants)


def halved(kind: Any = INT64) -> Graph:
    """The tagger with every second frame left out, and how many are left of each row."""
    graph = tagger()
    nodes = (
        *(replace(n, outputs=("whole",)) if "logits" in n.outputs else n for n in graph.nodes),
        Node("Slice", ("whole", "first", "last", "axis", "two"), ("logits",)),
        Node("Add", ("lengths", "one"), ("more",)),
        Node("Div", ("more", "divisor"), ("half",)),
        Node("Cast", ("half",), ("frames",), {"to": 7 if kind == INT64 else 6}),
    )
    numbers = {
        "first": np.array([0]), "last": np.array([10**6]), "axis": np.array([1]),
        "two": np.array([2]), "one": np.array(1), "divisor": np.array(2),
    }  # fmt: skip
    outputs = {
        "logits": TensorType(FLOAT32, ("N", "frames", 3)),
        "frames": TensorType(kind, ("N",)),
    }
    return replace(graph, outputs=outputs, nodes=nodes, constants={**graph.constants, **numbers})


def unpacked() -> Graph:
    """The tagger with frames up to the longest text of a batch alone."""
    graph = tagger()
    nodes = (
        *(replace(n, outputs=("whole",)) if "logits" in n.outputs else n for n in graph.nodes),
        Node("ReduceMax", ("lengths",), ("longest",)),
        Node("Slice", ("whole", "first", "longest", "axis"), ("logits",)),
    )
    numbers = {"first": np.array([0]), "axis": np.array([1])}
    outputs = {"logits": TensorType(FLOAT32, ("N", None, 3))}
    return replace(graph, outputs=outputs, nodes=nodes, constants={**graph.constants, **numbers})


def fixed(rows: int, steps: int) -> Graph:
    """The tagger for one shape of ids."""
    kinds = {
        "ids": TensorType(INT64, (rows, steps)), "lengths": TensorType(INT64, (rows,)),
    }  # fmt: skip
    outputs = {"logits": TensorType(FLOAT32, (rows, steps, 3))}
    return replace(tagger(), inputs=kinds, outputs=outputs)


def log_softmax(logits: Array) -> Array:
    values = logits.astype(np.float64)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def task(**options: Any) -> CTC:
    found = lightrnn.pipeline(with_text(tagger()), **options).task
    assert isinstance(found, CTC)
    return found


def best_path(logits: Array) -> dict[str, Any]:
    """What the likeliest label of every frame spells."""
    rows, found, before = log_softmax(logits), [], BLANK
    for row in rows:
        k = int(row.argmax())
        if k not in (before, BLANK):
            found.append(LABELS[k])
        before = k
    score = pytest.approx(float(rows.max(axis=1).sum()), abs=1e-4)
    return {"text": "-".join(found), "labels": found, "score": score}


def features_of(text: str) -> Array:
    """What the tagger's table holds of a text."""
    ids = [CHARACTERS.find(c) + 2 if c in CHARACTERS else 1 for c in text]
    rows: Array = tagger().constants["table"][ids]
    return rows.reshape(len(text), FEATURES)


EMPTY = {"text": "", "labels": [], "score": 0.0}
WANTED = [best_path(scores_alone(t)) if t else EMPTY for t in TEXTS]
WANTED_HALVED = [best_path(scores_alone(t)[::2]) if t else EMPTY for t in TEXTS]

MODELS: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "as many frames as ids": (with_text(tagger()), WANTED),
    "int32 lengths": (with_text(tagger(INT32)), WANTED),
    "fixed sizes": (with_text(
        fixed(3, 24), tokenizer={**TEXT["tokenizer"], "max_length": 20}), WANTED),
    "blank by number": (with_text(tagger(), blank=2), WANTED),
    "frame lengths": (with_text(halved(), frame_lengths="frames"), WANTED_HALVED),
    "int32 frame lengths": (with_text(halved(INT32), frame_lengths="frames"), WANTED_HALVED),
    "frames said to be ids": (with_text(unpacked(), frame_lengths="lengths"), WANTED),
    "unpacked to the longest": (with_text(unpacked()), WANTED),
    "unknown frames": (with_text(halved()), WANTED_HALVED),
}  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 5, 32])
@pytest.mark.parametrize("name", MODELS)
def test_the_best_path_is_that_of_each_text_alone(name: str, batch_size: int) -> None:
    model, wanted = MODELS[name]
    assert lightrnn.pipeline(model, batch_size)(TEXTS) == wanted
    assert any(not one["text"] for one, text in zip(wanted, TEXTS, strict=True) if text)
    assert any(len(one["labels"]) > 3 for one in wanted)


def test_a_model_without_lengths_gets_no_padding() -> None:
    steps = {"features": TensorType(FLOAT32, ("N", "T", FEATURES))}
    graph = from_features()
    nodes = tuple(
        replace(node, inputs=node.inputs[:4]) if node.op == "GRU" else node
        for node in graph.nodes
        if node.op != "Cast"
    )
    changes = {"tokenizer": None, "ids": None, "lengths": None, "features": "features"}
    model = with_text(replace(graph, inputs=steps, nodes=nodes), **changes)
    assert lightrnn.pipeline(model)([features_of(text) for text in TEXTS]) == WANTED


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_features_are_read_from_arrays(batch_size: int) -> None:
    model = with_text(from_features(), tokenizer=None, ids=None, features="features")
    pipe = lightrnn.pipeline(model, batch_size)
    assert pipe([features_of(text) for text in TEXTS]) == WANTED


def test_an_array_may_change_once_it_has_been_read() -> None:
    model = with_text(from_features(), tokenizer=None, ids=None, features="features")
    shared = np.zeros((20, FEATURES), np.float32)

    def read() -> Any:
        for text in TEXTS:
            shared[: len(text)] = features_of(text)
            yield shared[: len(text)]

    assert lightrnn.pipeline(model)(read()) == WANTED


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_wide_beam_finds_the_probabilities_of_all_texts(batch_size: int) -> None:
    pipe = lightrnn.pipeline(with_text(tagger()), batch_size, beam=1000, n_best=1000)
    for text, found in zip(SHORT, pipe(SHORT), strict=True):
        exact = all_paths(log_softmax(scores_alone(text)), BLANK)
        spelled = {tuple(LABELS[k] for k in key): value for key, value in exact.items()}
        assert {tuple(one["labels"]) for one in found["n_best"]} == set(spelled)
        for one in found["n_best"]:
            assert one["text"] == "-".join(one["labels"])
            assert np.exp(one["score"]) == pytest.approx(spelled[tuple(one["labels"])], rel=1e-4)
        scores = [one["score"] for one in found["n_best"]]
        assert scores == sorted(scores, reverse=True)
        assert {k: found[k] for k in EMPTY} == found["n_best"][0]


def test_a_beam_may_find_what_the_best_path_misses() -> None:
    model = with_text(tagger())
    greedy, beam = lightrnn.pipeline(model)(SHORT), lightrnn.pipeline(model, beam=20)(SHORT)
    assert [one["text"] for one in greedy] != [one["text"] for one in beam]
    assert all("n_best" not in one for one in (*greedy, *beam))
    assert all(a["score"] < b["score"] + 1e-9 for a, b in zip(greedy, beam, strict=True))
    two = lightrnn.pipeline(model, beam=20, n_best=2)(SHORT)
    assert [len(one["n_best"]) for one in two] == [2] * len(SHORT)


def test_the_task_decodes_what_a_model_has_given() -> None:
    longest = max(SHORT, key=len)
    rows = scores_alone(longest)
    padded = np.concatenate([rows, np.full_like(rows, np.nan)])
    wanted = best_path(rows)
    assert task().decode(rows[None]) == [wanted]
    assert task().decode(np.stack([padded, padded]), [len(rows), 0]) == [wanted, EMPTY]


@pytest.mark.parametrize(
    ("scores", "lengths", "message"),
    [
        (np.zeros((2, 4, 3)), [4, 5], "4 frames in each of 2 rows of output 'logits', of which"),
        (np.zeros((2, 4, 3)), [4, -1], "of which 4, -1 should count"),
        (np.zeros((2, 4, 3)), [4], "of which 4 should count"),
        (np.zeros((2, 4, 4)), None, "'logits' has shape (2, 4, 4), expected (?, ?, 3)"),
        (np.zeros((4, 3)), None, "'logits' has shape (4, 3), expected (?, ?, 3)"),
        (np.full((1, 4, 3), np.nan), None, "'logits' holds values that are not numbers"),
    ],
)
def test_scores_that_cannot_be_decoded(scores: Array, lengths: Any, message: str) -> None:
    with pytest.raises((DataError, TextError)) as caught:
        task().decode(scores, lengths)
    assert message in str(caught.value)


WRONG_FRAMES = replace(
    halved(), outputs={"logits": TensorType(FLOAT32, ("N", "T", 3))}
)  # as many frames as ids, it says
WITHOUT = replace(fixed(3, 24), outputs={"logits": TensorType(FLOAT32, (3, "frames", 3))})


@pytest.mark.parametrize(
    ("graph", "changes", "message"),
    [
        (tagger(), {"labels": ["x", "_"], "blank": 1}, "2 labels, but output 'logits' is"),
        (tagger(), {"labels": ["x", "x", "_"]}, "'labels' of text holds 'x' twice"),
        (tagger(), {"blank": "b"}, "blank is 'b', expected one of 3 labels or its number"),
        (tagger(), {"blank": 3}, "blank is 3, expected one of 3 labels or its number"),
        (tagger(), {"blank": -1}, "blank is -1, expected one of 3 labels or its number"),
        (tagger(), {"blank": True}, "'blank' of text is True, expected a whole number or a string"),
        (tagger(), {"joiner": 1}, "'joiner' of text is 1, expected a string"),
        (tagger(), {"scores": "no"}, "no output 'no', the graph has logits"),
        (tagger(), {"lengths": None}, "also has the input 'lengths'"),
        (tagger(), {"frame_lengths": "no"}, "no output 'no', the graph has logits"),
        (halved(), {"scores": "frames"}, "output 'frames' is int64[N], expected rank 3"),
        (halved(), {"frame_lengths": "logits"}, "expected rank 1"),
        (tagger(), {"scheme": "BIO"}, "unknown field 'scheme'"),
        (tagger(), {"ids": None}, "ctc needs `ids` or `features`, one of them"),
        (tagger(), {"features": "x"}, "ctc needs `ids` or `features`, one of them"),
        (tagger(), {"ids": None, "features": "ids"}, "input 'ids' is int64[N, T], expected rank 3"),
        (from_features(), {"ids": None, "features": "features"}, "unknown field 'tokenizer'"),
        (tagger(), {"tokenizer": None}, "text lacks 'tokenizer'"),
        (tagger(), {"frame_lengths": "ids"}, "no output 'ids', the graph has logits"),
        (WITHOUT, {"tokenizer": {**TEXT["tokenizer"], "max_length": 20}},
         "padded to a fixed length, so the model needs `frame_lengths`"),
    ],
)  # fmt: skip
def test_a_bad_description_is_one_clear_error(
    graph: Graph, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TextError) as caught:
        lightrnn.pipeline(with_text(graph, **changes))
    assert message in str(caught.value)


PRODUCT = Graph(
    {"features": TensorType(FLOAT32, ("N", 7, FEATURES))},
    {"logits": TensorType(FLOAT32, None)},
    (Node("MatMul", ("features", "w"), ("logits",)),),
    {"w": np.eye(FEATURES, 3, dtype=np.float32)},
)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("N", "T", "F"), "expected a known number of features"),
        (None, "expected a known number of features"),
        (("N", "T"), "expected rank 3"),
        (("N", 7, FEATURES), "a fixed length, and the model takes none"),
    ],
)
def test_features_of_sizes_that_cannot_be_read(shape: Any, message: str) -> None:
    graph = replace(PRODUCT, inputs={"features": TensorType(FLOAT32, shape)})
    changes = {"tokenizer": None, "ids": None, "features": "features", "lengths": None}
    with pytest.raises(TextError) as caught:
        lightrnn.pipeline(with_text(graph, **changes))
    assert message in str(caught.value)


def test_features_of_a_fixed_length_are_padded_up_to_it() -> None:
    shape = {
        "features": TensorType(FLOAT32, (2, 20, FEATURES)), "lengths": TensorType(INT64, (2,)),
    }  # fmt: skip
    graph = replace(
        from_features(), inputs=shape, outputs={"logits": TensorType(FLOAT32, (2, 20, 3))}
    )
    pipe = lightrnn.pipeline(with_text(graph, tokenizer=None, ids=None, features="features"))
    assert pipe([features_of(text) for text in TEXTS]) == WANTED
    with pytest.raises(TextError, match="item 0 has 21 rows, the model takes 20"):
        pipe([np.zeros((21, FEATURES), np.float32)])


@pytest.mark.parametrize(
    "model", [with_text(halved(), frame_lengths="lengths"), with_text(WRONG_FRAMES)]
)
def test_fewer_frames_than_should_count(model: bytes) -> None:
    with pytest.raises(DataError, match=r"4 frames in each of 1 rows .*, of which 8 should count"):
        lightrnn.pipeline(model)(["abcdefgh"])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("abc", "text 1 is a str, expected ndarray"),
        ([[0.0] * FEATURES], "text 1 is a list, expected ndarray"),
        (np.zeros((3, FEATURES)), "item 1 is float64 of shape (3, 5), expected float32"),
        (np.zeros((3, 4), np.float32), "item 1 is float32 of shape (3, 4), expected float32"),
        (np.zeros(FEATURES, np.float32), "of shape (5,), expected float32 of shape (T, 5)"),
    ],
)
def test_an_item_that_is_not_features(item: Any, message: str) -> None:
    model = with_text(from_features(), tokenizer=None, ids=None, features="features")
    with pytest.raises(TextError) as caught:
        lightrnn.pipeline(model)([np.zeros((2, FEATURES), np.float32), item])
    assert message in str(caught.value)


@pytest.mark.parametrize("options", [{"beam": 0}, {"n_best": 2}, {"n_best": 0}, {"length": 3}])
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        lightrnn.pipeline(with_text(tagger()), **options)


LINES = [*SHORT, "", "abc\tdef"]
FORMS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "text": ([], {}),
    "beam": (["--beam", "4"], {"beam": 4}),
    "scores": (["--scores"], {}),
    "n best": (["--scores", "--beam", "4", "--n-best", "2"], {"beam": 4, "n_best": 2}),
    "jsonl": (["--format", "jsonl", "--beam", "4", "--n-best", "2"], {"beam": 4, "n_best": 2}),
}


@pytest.mark.parametrize("form", FORMS)
def test_lines_on_the_command_line(form: str, tmp_path: Path) -> None:
    argv, options = FORMS[form]
    model = tmp_path / "m.lrnn"
    model.write_bytes(with_text(tagger()))
    found = lightrnn_command("run", model, written(tmp_path, LINES), *argv)
    assert (found.status, "1 empty line" in found.err) == (0, True)
    results = lightrnn.pipeline(with_text(tagger()), **options)(LINES)
    if form == "jsonl":
        assert [json.loads(line) for line in found.lines] == results
    elif "--scores" in argv:
        cells = [
            [f for one in r.get("n_best", [r]) for f in (one["text"], f"{one['score']:.6f}")]
            for r in results
        ]
        cells[LINES.index("")] = [""]
        assert [line.split("\t") for line in found.lines] == cells
    else:
        assert found.lines == [one["text"] for one in results]


def test_a_model_of_arrays_on_the_command_line(tmp_path: Path) -> None:
    model = tmp_path / "m.lrnn"
    model.write_bytes(with_text(from_features(), tokenizer=None, ids=None, features="features"))
    message = failure(2, "run", model, stdin=b"abc\n")
    assert "the model reads arrays, not lines: run it on arrays (--npz)" in message
    found = lightrnn_command("inspect", model)
    assert "text: ctc, 3 labels: x, yy, _" in found.lines


def test_labels_that_repeat_need_a_blank_between() -> None:
    paths = {"xx_x": "x-x", "xxxx": "x", "x_y_": "x-yy", "____": "", "yxxy": "yy-x-yy"}
    numbers = {"x": 0, "y": 1, "_": 2}
    scores = np.stack([np.eye(3)[[numbers[c] for c in path]] * 9 for path in paths])
    assert [one["text"] for one in task().decode(scores)] == list(paths.values())
    wide = task(beam=8).decode(scores)
    assert [one["text"] for one in wide] == list(paths.values())
