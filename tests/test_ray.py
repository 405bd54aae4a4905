"""Ray Data: what a batch gets, and that a local Ray gives what one process gives, in its order."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import InputError, TextError
from lightrnn.graph import Array
from lightrnn.ray import Predictor
from tests import text_models
from tests.command import LANGID, ROOT

TEXTS = ["", "abc", "中文 a", "h", "", "gfedcba"]
MODELS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "classification": (text_models.classifier({}), {}),
    "classification, some labels": (text_models.classifier({}), {"top_k": 2}),
    "tagging": (text_models.tagger(), {}),
    "generation": (text_models.generator(), {"temperature": 0, "length": 5}),
    "translation": (text_models.translator(), {"attention": True, "beam": 2, "n_best": 2}),
}


def batch(texts: list[str]) -> dict[str, Array]:
    """As Ray Data makes it of lines."""
    return {"text": np.array(texts, object), "line": np.arange(len(texts))}


def rows(columns: dict[str, Array]) -> list[dict[str, Any]]:
    named = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{key[2:]: value for key, value in row.items() if key[:2] == "r_"} for row in named]


@pytest.mark.parametrize("name", MODELS)
def test_columns_hold_what_the_pipeline_gives(name: str) -> None:
    model, options = MODELS[name]
    expected = lightrnn.pipeline(model, **options)(TEXTS)
    found = Predictor(model, prefix="r_", **options)(batch(TEXTS))
    assert found["text"].tolist() == TEXTS
    assert found["line"].tolist() == list(range(len(TEXTS)))
    assert rows(found) == expected
    assert all(column.shape == (len(TEXTS),) for column in found.values())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["abc"], ["abc", "abc"]])
def test_every_batch_gets_the_same_columns(texts: list[str], name: str) -> None:
    model, options = MODELS[name]
    predictor = Predictor(model, prefix="r_", **options)
    found = predictor(batch(texts))
    assert list(found) == list(predictor(batch(TEXTS)))
    assert rows(found) == lightrnn.pipeline(model, **options)(texts)


def test_a_path_is_run_on_one_thread_and_a_model_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    loaded = lightrnn.load(LANGID, threads=2)

    def load(source: Any, device: str, threads: int | None) -> lightrnn.Model:
        asked.append((source, threads))
        return loaded

    monkeypatch.setattr(import_module("lightrnn.text.pipeline"), "load", load)
    Predictor(LANGID)
    Predictor(loaded)
    assert asked == [(LANGID, 1)]


def test_another_column_may_hold_the_texts() -> None:
    model, _ = MODELS["tagging"]
    found = Predictor(model, column="review")({"review": np.array(TEXTS)})
    assert list(found) == ["review", "tags", "spans"]
    assert found["tags"].tolist() == [r["tags"] for r in lightrnn.pipeline(model)(TEXTS)]


BAD_BATCHES: dict[str, tuple[Any, type[Exception], str]] = {
    "another form": ([{"text": "a"}], InputError, "^a batch is a list, expected a dict of"),
    "no such column": ({"line": np.arange(2)}, InputError, "^no column 'text', the batch has line"),
    "a column in the way": (
        {"text": np.array(["a"]), "tags": np.arange(1)}, InputError,
        "^the batch already has a column 'tags': give another prefix$",
    ),
    "missing text": (batch(["a", None]), TextError, "^text 1 is a NoneType, expected str$"),  # type: ignore[list-item]
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_batch_that_does_not_fit_is_refused(name: str) -> None:
    given, error, said = BAD_BATCHES[name]
    with pytest.raises(error, match=said):
        Predictor(text_models.tagger())(given)


def test_texts_that_are_drawn_by_their_number_are_refused() -> None:
    model, _ = MODELS["generation"]
    with pytest.raises(InputError, match=r"^generation draws .* number.*temperature=0"):
        Predictor(model, prefix="r_")


# In Ray

COUNT = 100_000
START = """
import json
from pathlib import Path

import ray

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
"""
MORE = """
Path("rows.json").write_text(json.dumps(list(rows)))
texts = json.loads(Path("texts.json").read_text())
for name, model, options in json.loads(Path("models.json").read_text()):
    more = ray.data.from_items([{"text": text} for text in texts], override_num_blocks=4)
    more = more.map_batches(
        lightrnn.ray.Predictor,
        fn_constructor_kwargs={"model": lightrnn.load(model, threads=1), "prefix": "r_", **options},
        concurrency=1,
    )
    Path(f"{name}.json").write_text(json.dumps(more.take_all()))
"""


def documented() -> str:
    """The example of docs/text.md."""
    page = (ROOT / "docs" / "text.md").read_text(encoding="utf-8")
    found = re.search(r"^## Beyond one machine\n.*?```python\n(.*?)```", page, re.M | re.S)
    assert found is not None
    return found[1]


def short_lines() -> list[str]:
    """Up to four words of many languages, some of them none."""
    words = (ROOT / "examples" / "langid" / "sentences.txt").read_text(encoding="utf-8").split()
    rng = np.random.default_rng(0)
    picked = rng.integers(0, len(words), (COUNT, 4)).tolist()
    lengths = rng.integers(0, 5, COUNT).tolist()
    return [" ".join(words[k] for k in row[:n]) for row, n in zip(picked, lengths, strict=True)]


def in_ray(folder: Path) -> None:
    """Run the documented example and `MORE` in a process of its own, at home in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", START + documented() + MORE],
        cwd=folder,
        env={
            **os.environ,
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.native
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_local_ray_gives_what_one_process_gives(tmp_path: Path) -> None:
    lines = short_lines()
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "model.lrnn").write_bytes(LANGID.read_bytes())
    texts = [""] * 20 + TEXTS * 5
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    some = ["tagging", "classification, some labels"]
    for name in some:
        (tmp_path / f"{name}.lrnn").write_bytes(MODELS[name][0])
    chosen = [(name, str(tmp_path / f"{name}.lrnn"), MODELS[name][1]) for name in some]
    (tmp_path / "models.json").write_text(json.dumps(chosen))
    in_ray(tmp_path)
    results = lightrnn.pipeline(LANGID)(lines)
    expected = [{"text": t, **r} for t, r in zip(lines, results, strict=True)]
    assert json.loads((tmp_path / "rows.json").read_text()) == expected
    for name in some:
        model, options = MODELS[name]
        found = json.loads((tmp_path / f"{name}.json").read_text())
        prefixed = [{f"r_{k}": v for k, v in r.items()} for r in
                    lightrnn.pipeline(model, **options)(texts)]  # fmt: skip
        assert found == [{"text": t, **r} for t, r in zip(texts, prefixed, strict=True)]


def test_lightrnn_never_imports_ray() -> None:
    code = "import sys, lightrnn, lightrnn.ray, lightrnn.text; print('ray' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
