"""`lightrnn plot`: attention as a heat map."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import lightrnn
from lightrnn.cli.plot import fonts_for, heat_map
from tests.command import failure, lightrnn_command
from tests.text_models import MODELS, saved


@pytest.mark.parametrize(
    ("suffix", "text"),
    [("svg", "a$b$cag"), ("svg", "f cc"), ("svg", "ebfgg"), ("png", "f cc"), ("pdf", "a$b$cag")],
)
def test_attention_is_drawn(suffix: str, text: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model = saved(tmp_path, "translator")
    pictures = []
    for name in ("a", "b"):
        target = tmp_path / f"{name}.{suffix}"
        found = lightrnn_command("plot", model, text, "-o", target)
        assert (found.status, found.out, found.err) == (0, b"", "")
        pictures.append(target.read_bytes())
    assert pictures[0] == pictures[1]
    if suffix == "svg":
        shown = re.findall(r"<text [^>]*>([^<]*)</text>", pictures[0].decode())
        (result,) = lightrnn.pipeline(MODELS["translator"])([text])
        assert result["text"]
        assert shown == [*(text + result["text"]).replace(" ", "␣")]


def test_the_picture_shows_the_weights() -> None:
    pytest.importorskip("matplotlib")
    weights = [[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]
    (axes,) = heat_map(weights, ["a", "b"], ["x", "y", "z"]).axes
    assert axes.images[0].get_array().tolist() == weights
    assert axes.images[0].get_clim() == (0, 1)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["x", "y", "z"]
    assert axes.yaxis_inverted()


def test_fonts_that_have_the_characters(caplog: pytest.LogCaptureFixture) -> None:
    font_manager = pytest.importorskip("matplotlib.font_manager")
    default = list(font_manager.FontProperties().get_family())
    assert fonts_for("abc é") == default
    assert not caplog.records
    other = fonts_for("abc \ue0d2")  # which only a font of symbols among matplotlib's own has
    assert len(other) == len(default) + 1
    assert "STIX" in other[-1]
    assert not caplog.records
    assert fonts_for("a\U0010fffd\U0010fffc") == default
    (message,) = caplog.messages
    assert message.startswith("no installed font has \U0010fffc \U0010fffd: install one")


def test_plots_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    model, target = saved(tmp_path, "translator"), tmp_path / "a.svg"
    assert "is none of" in failure(2, "plot", model, "abc", "-o", tmp_path / "a.xyz")
    assert "is none of" in failure(2, "plot", model, "abc", "-o", tmp_path / "a")
    assert "nothing to draw" in failure(1, "plot", model, "", "-o", target)
    other = saved(tmp_path, "tagger")
    assert "is one of tagging" in failure(1, "plot", other, "abc", "-o", target)
    without = saved(tmp_path, "no attention")
    assert "no attention to return" in failure(1, "plot", without, "abc", "-o", target)
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert "pip install 'lightrnn[plot]'" in failure(1, "plot", model, "abc", "-o", target)
    assert not target.exists()
