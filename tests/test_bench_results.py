"""What the benchmark computes from its results, and the page made of them."""

from __future__ import annotations

import xml.etree.ElementTree
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from bench import limits, page, parts, precision, targets
from bench.__main__ import run
from bench.cells import Attention, Layer, Step, Whole, from_json, to_json
from bench.limits import PEAK, reading
from bench.machine import folder_name
from bench.pair import DIFFER
from bench.results import Part, best_of, geometric_mean, read_all, save
from bench.share import held_by, in_second_cache, shares
from bench.summary import Row
from tests.bench_results import MACHINE, pair, part

LSTM = Layer("LSTM", 64, 1, 100)
ERRORS = {"lightrnn_error": 1e-5, "engine_error": 1e-5, "rounding_error": 1e-5}


def found(rows: list[Row], start: str) -> Row:
    (row,) = (row for row in rows if row.group.startswith(start))
    return row


@pytest.mark.parametrize(
    "cell",
    [LSTM, Step("GRU", 16, "stream"), Attention("additive", 1, 16), Whole("audio stream", 1, 576)],
)
def test_a_result_knows_its_cell(cell: Layer | Step | Attention | Whole) -> None:
    assert from_json({**to_json(cell), "engine": "torch", "ratio": 1.0}) == cell


def test_each_cell_stands_beside_the_engine_that_is_hardest_on_it() -> None:
    other = replace(LSTM, batch=4)
    results = [
        pair(LSTM, "onnxruntime", 1.5), pair(LSTM, "torch", 1.2), pair(other, "torch", 3.0),
        {**to_json(LSTM), "engine": "openvino", "refused": "no such layer"},
    ]  # fmt: skip
    assert {c: r["engine"] for c, r in best_of(results).items()} == {LSTM: "torch", other: "torch"}


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)


def test_what_holds_a_layer() -> None:
    known = dict(MACHINE["limits"]) | {reading("256 KiB"): 10.0, reading("16 KiB"): 1000.0}
    assert held_by(LSTM, known) == "reading 0.062 MiB of weights a step"
    known = dict(MACHINE["limits"]) | {PEAK: 10.0}
    assert held_by(replace(LSTM, batch=64, threads=2), known) == "arithmetic"


def test_shares_are_of_what_the_bound_took_beside_the_layer() -> None:
    other = replace(LSTM, batch=32)
    found = shares([pair(LSTM, "limit", 0.6), pair(other, "limit", 0.8), pair(LSTM, "torch", 2.0)])
    assert found == {LSTM: 0.6, other: 0.8}
    cells = dict(parts.plan("layers", quick=False, threads=(1, 2)))["limit"]
    assert {(c.threads, c.batch) for c in cells if isinstance(c, Layer)} == {(1, 1), (1, 32)}


@pytest.mark.parametrize("longer", ["compute", "fetch"])
def test_the_bound_is_the_longer_of_arithmetic_and_reading(
    longer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In multiply-adds of 16 lanes, ten a round, and in bytes of R, either way, step by step."""
    operations, read = [], []
    monkeypatch.setattr(limits, "_best", lambda run: run.__name__ == longer)
    monkeypatch.setattr(limits, "_multiply_adds", lambda: lambda _, n: operations.append(160 * n))
    monkeypatch.setattr(limits, "_reads", lambda: lambda _, n, times: read.append(4 * n * times))
    limits.bound(replace(LSTM, directions=2))()
    if longer == "compute":
        assert operations == [pytest.approx(2 * 16384 * 199, rel=1e-3)]
        assert not read
    else:
        assert read == [65536 * 100] * 2
        assert not operations


@pytest.mark.parametrize(
    ("hidden", "expected"), [(32, False), (64, True), (256, True), (512, False)]
)
def test_weights_in_the_second_cache(hidden: int, expected: bool) -> None:
    assert in_second_cache(replace(LSTM, hidden=hidden), MACHINE["caches"]) is expected


def test_layers_by_group() -> None:
    several = {"lightrnn_error": 2e-8, "engine_error": 4e-8}
    rows = targets.rows({"layers": part(
        pair(LSTM, "onnxruntime", 1.0, **several), pair(replace(LSTM, steps=20), "torch", 4.0),
        pair(replace(LSTM, batch=8), "openvino", 0.5), pair(replace(LSTM, steps=1), "torch", 16.0),
        pair(replace(LSTM, threads=2), "torch", 1.0),
        pair(replace(LSTM, threads=2), "lightrnn 1 thread", 0.9),
    )})  # fmt: skip
    small = found(rows, "float32 layers, 1 thread, 20 steps and more, H up to 256, batch 1")
    assert (small.measured, small.cells, small.met) == ("2.00× (1.00 to 4.00)", 2, True)
    large = found(rows, "float32 layers, 1 thread, 20 steps and more, H up to 256, batch 4")
    assert (large.cells, large.met) == (1, False)
    assert found(rows, "all float32 layers, 1 thread").cells == 4
    assert found(rows, "all float32 layers, 2 threads").met is False
    assert found(rows, "the worst").measured == "0.50× (LSTM 64, batch 8, 100 steps)"
    assert found(rows, "2 threads beside 1").met is False
    assert found(rows, "RMS error").measured == "0.50 (at most 0.50)"


def test_quickest_at_an_error_leaves_out_who_does_not_keep_it() -> None:
    int8, half = replace(LSTM, dtype="int8"), replace(LSTM, dtype="float16")
    rough = {"lightrnn_error": 6e-4, "engine_error": 5e-4}
    results = [
        pair(half, "torch", 3.0, **ERRORS), pair(half, "onnxruntime", 2.0, **ERRORS),
        pair(half, "openvino bfloat16", 1.1, **{**ERRORS, "engine_error": 5e-4}),
        pair(int8, "openvino bfloat16", 1.5, **rough), pair(int8, "torch", 9.0, **rough),
        pair(int8, "lightrnn float32", 0.1, **rough),
    ]  # fmt: skip
    fine, coarse = precision.quickest(results, 1e-4), precision.quickest(results, 1e-3)
    assert fine is not None
    assert (fine["dtype"], fine["engine"], fine["ratio"]) == ("float16", "onnxruntime", 2.0)
    assert coarse is not None
    assert (coarse["dtype"], coarse["ratio"]) == ("int8", 1.5)
    assert precision.quickest(results, 1e-6) is None


@pytest.mark.parametrize(
    ("ratio", "error", "met"),
    [(1.3, 4e-4, True), (1.3, 9e-4, False), (2.1, 9e-4, True), (2.1, 2e-3, False)],
)
def test_int8_beside_onnxruntimes(ratio: float, error: float, met: bool) -> None:
    cell = Layer("LSTM", 256, 1, 100, dtype="int8")
    errors = {"lightrnn_error": error, "engine_error": 1e-3}
    rows = targets.rows({"precision": part(pair(cell, "onnxruntime int8", ratio, **errors))})
    assert found(rows, "int8 LSTM 256").met is met


@pytest.mark.parametrize(
    ("extensions", "met"), [(("avx2",), None), (("avx2", "amx_bf16", "amx_int8"), True)]
)
def test_batches_in_fewer_bits_are_asked_where_there_is_amx(
    extensions: tuple[str, ...], met: bool | None
) -> None:
    cell = Layer("GRU", 256, 32, 50, dtype="int8")
    errors = {"lightrnn_error": 9e-4, "engine_error": 5e-4, "rounding_error": 5e-4}
    worse = {**errors, "lightrnn_error": 2e-3}
    results = part(
        pair(cell, "torch bfloat16", 1.5, **errors),
        pair(replace(cell, hidden=512), "torch bfloat16", 0.2, **worse), extensions=extensions,
    )  # fmt: skip
    row = found(targets.rows({"precision": results}), "batch 32, 50 steps, int8")
    assert (row.cells, row.met) == (1, met)


def everything() -> dict[str, Part]:
    """Every part, a few results each."""
    int8 = Layer("LSTM", 512, 1, 100, dtype="int8")
    busy = {
        **to_json(LSTM),
        "cell": "Busy",
        "idle_p90_us": 10.0,
        "busy_p50_us": 9.0,
        "busy_p90_us": 31.0,
    }
    start = {"cell": "Start", "model": "LSTM", "runs": 3, "installed_bytes": 10**6}
    metric = {"cell": "Metric", "model": "m", "text": "words", "lines": 1000, "file_bytes": 5000}
    refused = {**to_json(LSTM), "engine": "torch", "refused": "RuntimeError: will not"}
    steps = [pair(Step("LSTM", 16, way), "onnxruntime", 4.0) for way in ("run", "states", "stream")]
    times = {"of_lightrnn": 1.0, "peak_bytes": 10**7, "file_bytes": 7000}
    return {
        "layers": part(pair(LSTM, "onnxruntime", 0.8, 1000.0), refused),
        "steps": part(*steps, busy, {"cell": "New shape", "more_ms": 0.25}),
        "attention": part(pair(Attention("additive", 1, 16), "torch", 1.25)),
        "models": part(pair(Whole("audio stream", 1, 576), "onnxruntime", 2.5)),
        "precision": part(pair(int8, "torch bfloat16", 2.0, **ERRORS)),
        "metric": part({**metric, "dtype": "float32", "accuracy": 0.82},
                       {**metric, "dtype": "int8", "accuracy": 0.81}),
        "start": part({**start, **times, "engine": "lightrnn", "first_ms": 100.0},
                      {**start, **times, "engine": "onnxruntime", "first_ms": 130.0,
                       "of_lightrnn": 1.3, "peak_bytes": 2 * 10**7}),
    }  # fmt: skip


def test_the_page_holds_what_was_measured(tmp_path: Path) -> None:
    for name, one in everything().items():
        save(name, one, tmp_path)
    text = page.render(read_all(tmp_path), ["speed.svg"])
    for expected in (
        "| LSTM | 64 | 1 | 100 | 1 | 1 | 1000.0 | onnxruntime | 800.0 | 0.80 | 0.72 to 0.88 |",
        "| LSTM 64, batch 1, 100 steps | 0.80 | onnxruntime |",
        "beside onnxruntime, H up to 64, states in a stream | 4× | 4.00× (4.00 to 4.00) |",
        "Python thread busy, beside idle: the worst, up to 0.5 ms | 2× at most | 3.10× |",
        "A length not seen before costs the language identifier 0.25 ms.",
        "| additive | 1 | 16 | 1 | 1 | 100.0 | torch | 125.0 | 1.25 |",
        "accuracy on words, int8 |  | 81.00%, -1.00 points |",
        "| LSTM | onnxruntime | 130 | 1.30 | 20.0 | 7 | 1.0 |",
        "| fresh process: peak memory, onnxruntime's of lightrnn's |  | 2.00× (2.00 to 2.00) |",
        "| layers | torch | 1 | RuntimeError: will not |",
        "(speed.svg)",
    ):
        assert expected in text


def test_the_page_of_one_part_has_no_other_section(tmp_path: Path) -> None:
    save("steps", replace(everything()["steps"], quick=True), tmp_path)
    text = page.render(read_all(tmp_path), [])
    assert "## One step" in text
    assert "## Layers" not in text
    assert "a quick run" in text


def test_engines_that_disagree_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reasons = f"{DIFFER} by 0.2 (RMS)", "measured without torch"
    refused = [{**to_json(LSTM), "engine": "torch", "refused": reason} for reason in reasons]
    monkeypatch.setattr(parts, "measured", lambda *args: [*refused, pair(LSTM, "torch", 1.5)])
    args = Namespace(resume=False, quick=True, seconds=None)
    assert run("layers", args, MACHINE, tmp_path) == 1


def test_files_keep_four_digits(tmp_path: Path) -> None:
    save("layers", part(pair(LSTM, "torch", 1.234567)), tmp_path)
    (result,) = read_all(tmp_path)["layers"].results
    assert (result["ratio"], result["hidden"]) == (1.235, 64)


def test_plots_are_small_images(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench import plots

    for name in plots.draw(everything(), tmp_path):
        content = (tmp_path / name).read_bytes()
        assert len(content) < 60_000
        assert xml.etree.ElementTree.fromstring(content).tag.endswith("svg")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz", "intel-xeon-platinum-8488c-2-cores"),
        ("AMD EPYC", "amd-epyc-2-cores"),
    ],
)
def test_a_folder_for_each_machine(cpu: str, expected: str) -> None:
    assert folder_name({"cpu": cpu, "cores": 2}) == expected
