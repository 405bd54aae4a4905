"""`lightrnn run` on every text task: options, forms, gzip, bytes that are not UTF-8."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.cli.lines import Lines
from lightrnn.errors import InputError
from tests.command import LANGID, answers, failure, lightrnn_command
from tests.text_models import MODELS, saved, written

LINES = ["abc", "中文 ab", "", "h", "gg\tabc", "zz 文"]


OPTIONS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "defaults of a classifier": ("classifier", [], {}),
    "defaults of a tagger": ("tagger", [], {}),
    "defaults of a translator": ("translator", [], {}),
    "top k": ("classifier", ["--top-k", "2"], {"top_k": 2}),
    "all labels": ("classifier", ["--top-k", "0"], {"top_k": 0}),
    "threshold": ("classifier", ["--threshold", "0.45"], {"threshold": 0.45}),
    "threshold of several": ("multiple", ["--threshold", "0.3"], {"threshold": 0.3}),
    "length and seed": ("generator", ["--length", "6", "--seed", "3"], {"length": 6, "seed": 3}),
    "sampling": ("generator", ["--length", "9", "--top-k", "4", "--top-p", "0.9"],
                 {"length": 9, "top_k": 4, "top_p": 0.9}),
    "greedy": ("generator", ["--length", "9", "--temperature", "0"],
               {"length": 9, "temperature": 0.0}),
    "stop": ("generator", ["--length", "20", "--stop", "a"], {"length": 20, "stop": "a"}),
    "beam": ("translator", ["--beam", "3", "--n-best", "2", "--length-penalty", "0.5"],
             {"beam": 3, "n_best": 2, "length_penalty": 0.5}),
    "attention": ("translator", ["--attention", "--max-length", "3"],
                  {"attention": True, "max_length": 3}),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_options_are_those_of_the_pipeline(case: str, tmp_path: Path) -> None:
    name, argv, options = OPTIONS[case]
    source = written(tmp_path, LINES)
    found = lightrnn_command("run", saved(tmp_path, name), source, "--format", "jsonl", *argv)
    assert found.status == 0
    wanted = lightrnn.pipeline(MODELS[name], **options)(LINES)
    assert [json.loads(line) for line in found.lines] == json.loads(json.dumps(wanted))


def test_options_change_what_they_should(tmp_path: Path) -> None:
    def run(name: str, *argv: object) -> list[Any]:
        model, source = saved(tmp_path, name), written(tmp_path, LINES)
        found = lightrnn_command("run", model, source, "--format", "jsonl", *argv)
        return [json.loads(line) for line in found.lines]

    ranked = run("classifier", "--top-k", 0)
    assert [sum(one["score"] for one in r["labels"]) for r in ranked if r["label"]] == [
        pytest.approx(1)
    ] * 5
    sure = run("classifier", "--threshold", 0.6)
    assert [r["label"] for r in sure] == [
        r["label"] if r["score"] >= 0.6 else "" for r in run("classifier")
    ]
    assert {"", *"xyz"} > {r["label"] for r in sure} > {""}
    longest = max(len(r["text"]) for r in run("generator", "--length", 2))
    assert longest <= max(map(len, LINES)) + 2 < max(len(r["text"]) for r in run("generator"))
    assert run("generator", "--seed", 1) == run("generator", "--seed", 1)
    assert run("generator", "--seed", 1) != run("generator", "--seed", 2)
    weights = np.array(run("translator", "--attention")[0]["attention"])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


WRONG = {
    "classifier": (["--beam", "2"], "--beam is not for a model of classification, which has "
                                    "--top-k, --threshold"),
    "tagger": (["--seed", "2"], "--seed is not for a model of tagging, which has no options"),
    "generator": (["--attention"], "--attention is not for a model of generation, which has "),
    "translator": (["--top-k", "2"], "--top-k is not for a model of translation, which has "),
    "multiple": (["--threshold", "1.5"], "threshold is 1.5, expected 0 to 1"),
    "no attention": (["--attention", "--format", "jsonl"], "no attention to return"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_option_that_the_task_does_not_have(name: str, tmp_path: Path) -> None:
    argv, message = WRONG[name]
    assert message in failure(2, "run", saved(tmp_path, name), *argv, stdin=b"abc\n")


USAGE = {
    "scores of tags": ("tagger", ["--scores"], "--scores is not for a model of tagging"),
    "attention as text": ("translator", ["--attention"], "--attention needs --format jsonl"),
    "more than the beam": ("translator", ["--n-best", "2"], "n_best is 2, more than the beam of 1"),
    "beam": ("translator", ["--beam", "0"], "'0' is not a positive whole number"),
    "seed": ("generator", ["--seed", "-1"], "'-1' is not a whole number of 0 or more"),
    "threshold": ("classifier", ["--threshold", "half"], "'half' is not a number"),
    "infinite": ("generator", ["--temperature", "inf"], "temperature is inf"),
    "beyond powers": ("translator", ["--length-penalty", "400"], "length_penalty is 400"),
    "not a number": ("generator", ["--temperature", "nan"], "temperature is nan"),
    "errors": ("classifier", ["--errors", "ignore"], "'ignore'"),
    "resume": ("classifier", ["--resume"], "--resume needs -o OUT"),
    "resume stdout": ("classifier", ["--resume", "-o", "-"], "--resume needs -o OUT"),
    "resume a device": ("classifier", ["--resume", "-o", "/dev/null"], "regular file"),
    "arrays": ("classifier", ["--npz", "a", "-o", "b", "--top-k", "1"], "--npz goes with"),
    "arrays resumed": ("classifier", ["--npz", "a", "-o", "b", "--resume"], "--npz goes with"),
}


@pytest.mark.parametrize("case", USAGE)
def test_options_that_do_not_go_together(case: str, tmp_path: Path) -> None:
    name, argv, message = USAGE[case]
    assert message in failure(2, "run", saved(tmp_path, name), *argv, stdin=b"abc\n")


def test_a_text_model_fed_arrays(tmp_path: Path) -> None:
    arrays, target = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(arrays, ids=np.array([[3, 4]]))
    model = saved(tmp_path, "classifier")
    assert lightrnn_command("run", model, "--npz", arrays, "-o", target).status == 0
    assert np.load(target)["scores"].shape == (1, 3)
    np.savez(arrays, x=np.array([[3, 4]]))
    assert "'ids'" in failure(1, "run", model, "--npz", arrays, "-o", target)
    text = written(tmp_path, LINES)
    assert "not an .npz file" in failure(1, "run", model, "--npz", text, "-o", target)


def test_scores_are_tsv(tmp_path: Path) -> None:
    source = written(tmp_path, LINES)
    for name in ("classifier", "multiple", "generator", "translator"):
        model = saved(tmp_path, name)
        tsv = lightrnn_command("run", model, source, "--format", "tsv")
        assert lightrnn_command("run", model, source, "--scores").out == tsv.out
        rows = [line.split("\t") for line in tsv.lines]
        results = lightrnn.pipeline(MODELS[name])(LINES)
        for row, result in zip(rows, results, strict=True):
            if result["score"]:
                assert float(row[1]) == pytest.approx(result["score"], abs=1e-6)
            else:
                assert row == [""]


def test_pairs_of_columns(tmp_path: Path) -> None:
    argv = (saved(tmp_path, "classifier"), "--top-k", 3)
    (text,) = lightrnn_command("run", *argv, stdin=b"abc\n").lines
    (tsv,) = lightrnn_command("run", *argv, "--scores", stdin=b"abc\n").lines
    columns = tsv.split("\t")
    assert ",".join(columns[::2]) == text
    assert sorted(columns[::2]) == ["x", "y", "z"]
    scores = [float(c) for c in columns[1::2]]
    assert scores == sorted(scores, reverse=True)
    best = lightrnn_command("run", saved(tmp_path, "translator"), "--beam", 3, "--n-best", 3,
                            "--scores", stdin=b"abc\n")  # fmt: skip
    assert len(best.lines[0].split("\t")) == 6


@pytest.mark.parametrize("form", ["text", "tsv", "jsonl"])
def test_a_result_is_a_line_whatever_it_holds(form: str, tmp_path: Path) -> None:
    """This model writes tabs and line breaks among others."""
    source = written(tmp_path, [str("abcdefgh"[k % 8]) for k in range(40)])
    argv = ("--length", 30, "--format", form)
    found = lightrnn_command("run", saved(tmp_path, "generator"), source, *argv)
    assert len(found.lines) == 40
    texts = [r["text"] for r in lightrnn.pipeline(MODELS["generator"], length=30)(
        source.read_text().split())]  # fmt: skip
    assert any("\n" in text for text in texts)
    assert any("\t" in text for text in texts)
    if form == "tsv":
        cells = [line.split("\t") for line in found.lines]
        assert [c[0] for c in cells] == [t.replace("\n", "\\n").replace("\t", "\\t") for t in texts]
        assert {len(c) for c in cells} == {2}


# What is read


@pytest.mark.parametrize("name", ["in.txt.gz", "in.txt"])
@pytest.mark.parametrize("stdin", [True, False])
def test_gzip_is_read_by_its_first_bytes(name: str, stdin: bool, tmp_path: Path) -> None:
    texts = ["guten Morgen", "", "bonjour tout le monde"]
    plain = "\ufeff".encode() + "\r\n".join(texts).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(plain[:20]) + gzip.compress(plain[20:]))
    if stdin:
        found = lightrnn_command("run", LANGID, stdin=path.read_bytes())
    else:
        found = lightrnn_command("run", LANGID, path)
    assert found.lines == answers(texts)


DAMAGED = {
    "cut off": gzip.compress(b"guten Morgen\n" * 99)[:-9],
    "changed": gzip.compress(b"guten Morgen\n")[:-8] + b"12345678",
    "not gzip": b"\x1f\x8bguten Morgen\n",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_gzip_is_named(case: str, tmp_path: Path) -> None:
    path = tmp_path / "in.gz"
    path.write_bytes(DAMAGED[case])
    found = lightrnn_command("run", LANGID, path)
    assert found.status == 1
    assert found.err.startswith(f"lightrnn: error: {path}: damaged gzip: ")
    assert found.err.count("\n") == 1


def test_a_name_in_gz_may_be_plain_text(tmp_path: Path) -> None:
    path = written(tmp_path, ["guten Morgen"], "in.gz")
    assert lightrnn_command("run", LANGID, path).lines == answers(["guten Morgen"])


@pytest.mark.parametrize("data", [b"caf\xe9 au lait\nx\n", bytes(range(256)), b"\xff\n"])
def test_bytes_that_are_not_utf8_are_replaced(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(data)
    found = lightrnn_command("run", LANGID, path, "--errors", "replace")
    texts = [line.decode("utf-8", "replace") for line in data.removesuffix(b"\n").split(b"\n")]
    assert found.status == 0
    assert found.lines == answers(texts)


def test_results_before_a_bad_line_are_given(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"guten Morgen\nbonjour\n\xff\nx\n")
    found = lightrnn_command("run", LANGID, path)
    assert found.lines == answers(["guten Morgen", "bonjour"])
    assert (found.status, found.err.count("\n")) == (1, 1)
    assert f"{path}: line 3 is not UTF-8" in found.err


def test_how_far_reading_is(tmp_path: Path) -> None:
    a, b = written(tmp_path, ["x"] * 5, "a"), written(tmp_path, ["y"] * 7, "b")
    lines = Lines([str(a), str(b)])
    assert (lines.total, lines.position) == (24, 0)
    lines.skip(6)
    assert lines.position > 10
    assert list(lines) == ["y"] * 6
    assert lines.position == 24
    assert Lines([str(a), "-"]).total is None
    assert Lines(["/dev/null"]).total is None
    with pytest.raises(InputError, match="the input has 5 lines"):
        Lines([str(a)]).skip(6)
