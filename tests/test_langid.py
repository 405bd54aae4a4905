"""The language identifier: what its README says of it, others' results, one native call."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

import lightrnn
from examples.langid.evaluate import HEADER, HERE, MODEL, SENTENCES, measure, sentences
from examples.langid.words import LANGUAGES
from lightrnn.cli import main
from lightrnn.engine.interpret import evaluate
from lightrnn.graph import OPSET, Array

SHAPES = ((1, 7), (32, 64))


@cache
def model() -> lightrnn.Model:
    return lightrnn.load(MODEL)


@cache
def known_characters() -> dict[str, int]:
    """Ids of characters, by the file's own description."""
    text = model().text
    assert text is not None
    return {c: k for k, c in enumerate(text["tokenizer"]["characters"], 2)}


def some_lines(count: int, steps: int) -> dict[str, Array]:
    """ids and lengths of `count` real lines, cut to different lengths of at most `steps`."""
    lines = [line for some in sentences().values() for line in some[:2]][:count]
    known = known_characters()
    rows = [[known.get(c, 1) for c in t.lower()][: steps - k % 5] for k, t in enumerate(lines)]
    ids = np.zeros((len(rows), steps), np.int64)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return {"ids": ids, "lengths": np.array([len(row) for row in rows])}


def stated_accuracy(name: str) -> float:
    """What README.md says, as a share."""
    table = (HERE / "README.md").read_text(encoding="utf-8").partition(HEADER)[2]
    found = re.search(rf"^\| {name} \|[^|]*\| ([\d.]+) % \|", table, re.M)
    assert found is not None
    return float(found[1]) / 100


def test_sentences_of_all_languages() -> None:
    texts = sentences()
    assert sorted(texts) == sorted(LANGUAGES)
    assert min(map(len, texts.values())) >= 4
    assert MODEL.stat().st_size <= 1_000_000


def test_sentences_are_labelled_as_well_as_stated() -> None:
    result = measure("sentences", lightrnn.pipeline(MODEL), sentences())
    assert result.accuracy >= stated_accuracy("sentences")


def test_the_command_answers_each_line(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["run", str(MODEL), str(SENTENCES)]) == 0
    answers = capsysbinary.readouterr().out.decode().split("\n")
    assert answers.pop() == ""
    lines = SENTENCES.read_text("utf-8").removesuffix("\n").split("\n")
    assert answers == [answer["label"] for answer in lightrnn.pipeline(MODEL)(lines)]


@pytest.mark.parametrize(("count", "steps"), SHAPES)
def test_a_run_agrees_with_numpy_semantics(count: int, steps: int) -> None:
    feeds = some_lines(count, steps)
    wanted = evaluate(model().graph("main"), feeds)["logits"]
    np.testing.assert_allclose(model().run(feeds)["logits"], wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("count", "steps"), SHAPES)
def test_a_run_agrees_with_onnxruntime(count: int, steps: int) -> None:
    from onnx import helper

    from tests.onnx_models import model as onnx_model
    from tests.onnx_models import run as onnxruntime_run

    graph = model().graph("main")
    inputs = graph.inputs.items()
    types = {name: (helper.np_dtype_to_tensor_dtype(t.dtype), t.shape) for name, t in inputs}
    nodes = [helper.make_node(n.op, n.inputs, n.outputs, **n.attrs) for n in graph.nodes]
    proto = onnx_model(nodes, types, list(graph.outputs), graph.constants, opset=OPSET)
    feeds = some_lines(count, steps)
    (wanted,) = onnxruntime_run(proto, feeds)
    np.testing.assert_allclose(model().run(feeds)["logits"], wanted, rtol=0, atol=2e-5)


@pytest.mark.native
@pytest.mark.parametrize(("count", "steps"), SHAPES)
def test_a_run_is_one_native_call(count: int, steps: int) -> None:
    plan = model().plan({"ids": (count, steps), "lengths": (count,)})
    assert plan.native_calls == 1
    assert plan.host_steps == ()
    assert plan.whole is not None
