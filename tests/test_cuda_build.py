"""GPU kernels compiled without a GPU: what they use, the archive, and the rules of launches."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lightrnn.cuda import build, image
from lightrnn.cuda.grid import Gpu
from lightrnn.cuda.launch import SYMBOLS, is_supported, launch
from lightrnn.cuda.launch_persistent import best_split, persistent
from lightrnn.errors import DeviceError, NativeError
from lightrnn.native import abi
from tests import cuda_page

PAGE = Path(__file__).parents[1] / "docs" / "cuda-kernels.md"
HOPPER = Gpu(multiprocessors=132, shared_per_block=227 * 1024)
AMPERE = Gpu(multiprocessors=108, shared_per_block=163 * 1024)
CHIPS = {"H100": HOPPER, "A100": AMPERE}


@pytest.fixture(scope="module")
def images() -> image.Images:
    """The archive of the sources, built first where it is missing or stale."""
    try:
        build.check_toolkit()
    except NativeError as error:
        pytest.skip(str(error))
    return cuda_page.current()


def test_every_kernel_is_compiled_for_every_chip(images: image.Images) -> None:
    assert images.targets == ((8, 0), (9, 0))
    for symbol in SYMBOLS:
        for capability, kind in (((8, 6), "cubin"), ((9, 0), "cubin"), ((12, 0), "ptx")):
            code, found = images.code(symbol, capability)
            assert found == kind
            assert code.startswith(b"\x7fELF") if kind == "cubin" else b".entry" in code


def test_nothing_spills(images: image.Images) -> None:
    spills = {
        f"{name} on {target}": used["spills"]
        for name, by_target in images.resources.items()
        for target, used in by_target.items()
        if used["spills"]
    }
    assert not spills


@pytest.mark.parametrize("name", [n for n, s in SYMBOLS.items() if s.hot])
def test_blocks_of_hot_kernels_fit_a_multiprocessor(name: str, images: image.Images) -> None:
    for used in images.resources[name].values():
        blocks = SYMBOLS[name].resident
        assert used["registers"] * SYMBOLS[name].threads * blocks <= 65536
        assert used["stack"] == 0


def test_arithmetic_is_single_precision(images: image.Images) -> None:
    """A number that Python takes for a float64 would make a kernel slow on most GPUs."""
    wide = re.compile(r"\b(?:add|sub|mul|fma|div|sqrt)[.\w]*\.f64\b")
    allowed = {"unary"}  # libdevice reduces large angles so
    found = {
        name: match[0]
        for name in SYMBOLS.keys() - allowed
        if (match := wide.search(images.code(name, (99, 0))[0].decode()))
    }
    assert not found


@pytest.mark.parametrize("rows", [1, 8, 32])
def test_states_are_not_read_through_the_nearest_cache(rows: int, images: image.Images) -> None:
    """It may hold what another multiprocessor has overwritten since."""
    text = images.code(f"lstm_{rows}", (99, 0))[0].decode()
    asked = "ld.relaxed.gpu.global.v2.u64" if rows == 1 else "ld.global.cg.v4.f32"
    assert asked in text
    assert "ld.shared.v4.f32" in text
    assert ".local" not in text


def test_the_page_is_current(images: image.Images) -> None:
    text = PAGE.read_text()
    assert cuda_page.floors() in text, "run python -m tests.cuda_page docs/cuda-kernels.md"
    if not all(f"{name} {version}" in text for name, version in images.toolkit.items()):
        pytest.skip("the page is of another toolkit")
    assert cuda_page.page(images) == text, "run python -m tests.cuda_page docs/cuda-kernels.md"


@pytest.mark.parametrize("name", SYMBOLS)
def test_entries_take_plain_arguments(name: str, images: image.Images) -> None:
    """64 bits each: addresses, integers, and float64 where the ABI says float."""
    text = images.code(name, (99, 0))[0].decode()
    (entry,) = re.findall(rf"\.entry {name}\(([^)]*)\)", text)
    found = re.findall(r"\.param \.(?:align 8 )?\.?(\w+)", entry)
    kinds = [*abi.KERNELS[SYMBOLS[name].kernel].kinds, *SYMBOLS[name].extra]
    assert len(found) == len(kinds)
    for kind, given in zip(kinds, found, strict=True):
        assert given in (("f64",) if kind == "float" else ("u64", "s64", "b64"))


def test_building_without_a_toolkit_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_version", lambda package: "")
    with pytest.raises(NativeError, match=r"numba-cuda.*pip install 'lightrnn\[cuda-kernels\]'"):
        build.check_toolkit()


# Launches


@pytest.mark.parametrize("name", SYMBOLS)
def test_kernels_take_what_the_abi_says(name: str) -> None:
    build.load_function(SYMBOLS[name])


def test_every_instruction_has_a_gpu_kernel() -> None:
    team = {"team_run", "team_work", "team_stop", "current_core"}
    assert {n for n in abi.KERNELS if not is_supported(n)} == {
        "execute",
        "side_by_side",
        "matvec",
        "vecmat",
        *team,
    }
    with pytest.raises(NativeError, match="no GPU kernel for team_run"):
        launch("team_run", [], HOPPER)


def layer(hidden: int, batch: int, **more: int) -> dict[str, int]:
    return {"hidden": hidden, "batch": batch, "directions": 1, "steps": 64, **more}


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_whole_sequences_fit_the_chip(cell: str, chip: str) -> None:
    """All blocks run at once, one on each multiprocessor."""
    gpu = CHIPS[chip]
    found = 0
    for hidden in (1, 7, 64, 128, 200, 256, 511, 512, 1000, 1024, 1500, 2048):
        for batch in (1, 2, 8, 33, 128):
            for directions in (1, 2):
                a = layer(hidden, batch, directions=directions)
                split = best_split(cell, a, gpu, directions)
                if split is None:
                    continue
                found += 1
                symbol = SYMBOLS[f"{cell}_{split.rows}"]
                assert directions * split.slices * split.groups <= gpu.multiprocessors
                assert split.shared <= gpu.shared_per_block
                assert 0 < split.threads <= symbol.threads
                assert split.slices * split.units >= hidden
    assert found > 60


@pytest.mark.parametrize("hidden", [128, 256, 512, 1024])
@pytest.mark.parametrize("batch", [1, 32, 128])
def test_common_layers_are_done_at_once_on_an_h100(hidden: int, batch: int) -> None:
    assert best_split("lstm", layer(hidden, batch), HOPPER, 1)


def test_layers_that_do_not_fit_are_done_step_by_step() -> None:
    assert best_split("lstm", layer(2048, 1), HOPPER, 1) is None
    assert best_split("lstm", layer(64, 1, projection=1), HOPPER, 1) is None
    assert best_split("gru", layer(64, 1, after=0), HOPPER, 1) is None
    assert best_split("lstm", layer(512, 128, steps=1), HOPPER, 1) is None


def test_one_step_of_few_rows_is_one_launch() -> None:
    for rows in (1, 4):
        split = best_split("lstm", layer(512, rows, steps=1), HOPPER, 1)
        assert split is not None
        assert split.rows == 1


def test_directions_that_do_not_fit_together_run_one_after_the_other() -> None:
    for hidden, launches in ((512, 1), (1024, 2)):
        both = persistent("lstm", layer(hidden, 1, directions=2), HOPPER)
        assert [one.extra[-1] for one in both] == list(range(launches))


def test_attention_that_does_not_fit_is_refused() -> None:
    kinds = abi.KERNELS["attention"].parameters
    values: dict[str, Any] = {"size": 40000, "v_size": 40000, "steps": 1, "batch": 1, "heads": 1}
    with pytest.raises(NativeError, match=r"shared memory, the GPU has"):
        launch("attention", [values.get(p.name, 0) for p in kinds], HOPPER)


def test_products_with_int8_weights_are_refused() -> None:
    values = {"batch": 1, "m": 1, "n": 16, "kind": abi.WEIGHTS.index("int8")}
    with pytest.raises(NativeError, match="int8 weights; expected them as float32"):
        launch("gemm", [values.get(p.name, 0) for p in abi.KERNELS["gemm"].parameters], HOPPER)


# The archive


def archive(path: Path, **changes: Any) -> str:
    """A small archive, its index changed."""
    index = {"abi": abi.ABI, "sources": image.source_hash(), "toolkit": {}, "kernels": {}}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(image.INDEX, json.dumps({**index, **changes}))
        for target in ("sm_80", "sm_86", "sm_90"):
            file.writestr(f"{target}/fill.cubin", target)
        file.writestr("ptx/fill.ptx", "ptx")
    return str(path)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((8, 0), "sm_80"), ((8, 9), "sm_86"), ((9, 0), "sm_90"), ((10, 0), "ptx"), ((12, 1), "ptx")],
)
def test_the_image_fits_the_chip(
    capability: tuple[int, int], expected: str, tmp_path: Path
) -> None:
    images = image.Images(archive(tmp_path / "a.zip"))
    code, kind = image.Image(images, capability).code("fill")
    assert code.decode() == expected
    assert kind == ("ptx" if expected == "ptx" else "cubin")


def test_an_older_chip_is_refused(tmp_path: Path) -> None:
    images = image.Images(archive(tmp_path / "a.zip"))
    with pytest.raises(NativeError, match=r"capability 7\.5, expected 8\.0 or newer"):
        images.code("fill", (7, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"abi": 0}, "ABI 0, expected"), ({"sources": "0"}, "built from other kernel sources")],
)
def test_a_stale_archive_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(NativeError, match=message):
        image.Images(archive(tmp_path / "a.zip", **change))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", b"x" * 100])
def test_a_damaged_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(NativeError, match=r"a\.zip: cannot be read"):
        image.Images(str(tmp_path / "a.zip"))


def test_a_damaged_kernel_is_refused(tmp_path: Path) -> None:
    path = Path(archive(tmp_path / "a.zip"))
    path.write_bytes(path.read_bytes().replace(b"sm_90", b"sm_9x", 1))
    images = image.Images(str(path))
    with pytest.raises(NativeError, match=r"fill\.cubin"):
        images.code("fill", (9, 0))


def test_the_users_own_archive_is_found_and_must_be_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image, "PACKAGED", str(tmp_path / "none.zip"))
    with pytest.raises(DeviceError, match="build-kernels --cuda"):
        image.find_image((9, 0))
    folder = tmp_path / "lightrnn"
    folder.mkdir(mode=0o700)
    path = Path(archive(folder / image.FILE_NAME))
    path.chmod(0o600)
    assert image.find_image((9, 0)).images.path == str(path)
    path.chmod(0o666)
    with pytest.raises(NativeError, match="writable by you alone"):
        image.find_image((9, 0))
