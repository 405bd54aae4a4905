"""The device over cuda.core, what is said where something is missing, and DLPack."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.cuda import device, dlpack, image
from lightrnn.errors import DataError, DeviceError, DeviceMemoryError, UnsupportedError
from lightrnn.format import ModelFile, dumps
from tests.cuda_graphs import Interface, lookup, nonzero_free, stepping
from tests.cuda_simulator import GPU
from tests.fake_cuda import CUresult, FakeCuda
from tests.test_engine import recurrent_graph, sequence

CONTENT = dumps(ModelFile({"main": recurrent_graph("GRU", 8, lengths=True)}))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    made = FakeCuda()
    package, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    package.core, bindings.driver = made.core, made.driver  # type: ignore[attr-defined]
    for name, module in {
        "cuda": package, "cuda.core": made.core, "cuda.bindings": bindings,
        "cuda.bindings.driver": made.driver,
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(device, "_devices", {})
    kernels = SimpleNamespace(code=lambda symbol: (f"code of {symbol}".encode(), "cubin"))
    monkeypatch.setattr(device, "find_image", lambda capability: kernels)
    yield made
    gc.collect()


def load(content: bytes) -> lightrnn.Model:
    """A model on the fake GPU, its blocks small enough to run as Python."""
    model = lightrnn.load(content, device="cuda")
    model._executor.device.gpu = GPU  # type: ignore[union-attr]
    return model


@pytest.mark.native
def test_a_model_runs_through_cuda_core(cuda: FakeCuda) -> None:
    cpu, model = lightrnn.load(CONTENT, threads=1), load(CONTENT)
    for k in range(4):
        feeds = {"x": sequence(3, 2, 8, k), "lengths": np.array([3, 2], np.int32)}
        wanted = cpu.run(feeds)["y"]
        np.testing.assert_allclose(model.run(feeds)["y"], wanted, rtol=1e-5, atol=1e-6)
    assert cuda.log.count("graph") == 3
    launches = len(cuda.log)
    with pytest.raises(DataError, match="layer"):
        model.run({"x": sequence(3, 2, 8), "lengths": np.array([3, 9], np.int32)})
    assert cuda.log[launches:] == ["graph"]


@pytest.mark.native
def test_a_stream_of_pieces_runs_through_cuda_core(cuda: FakeCuda) -> None:
    content = dumps(ModelFile({"main": stepping()}))
    ours, theirs = load(content).stream(), lightrnn.load(content, threads=1).stream()
    for k in range(5):
        ids = {"ids": np.array([[k]])}
        np.testing.assert_allclose(ours.step(ids)["y"], theirs.step(ids)["y"], rtol=1e-5, atol=1e-6)
    assert cuda.log[-1] == "graph"


@pytest.mark.native
def test_results_on_the_gpu_are_ordered_by_events(cuda: FakeCuda) -> None:
    model = load(dumps(ModelFile({"main": nonzero_free()})))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    once: Any = model(Interface(x), stream=0)
    again: Any = model(once, stream=2)
    np.testing.assert_array_equal(np.asarray(again), 2 * (2 * x * x) ** 2)
    assert cuda.log.count("cuEventRecord") > 3
    again.__dlpack__(stream=1)
    assert "cuCtxSynchronize" not in cuda.log
    assert again.__cuda_array_interface__["stream"] == 2
    held = len(cuda.memory)
    del once, again
    gc.collect()
    assert "cuCtxSynchronize" in cuda.log  # nobody knows who reads what was shown to others
    assert len(cuda.memory) == held - 2


@pytest.mark.native
def test_memory_dropped_in_a_capture_is_freed_after_it(cuda: FakeCuda) -> None:
    model = load(dumps(ModelFile({"main": nonzero_free()})))
    gpu = model._executor.device  # type: ignore[union-attr]
    held: list[Any] = [model(Interface(np.ones((2, 3), np.float32)))]
    assert held[0].__cuda_array_interface__["version"] == 3
    before = len(cuda.memory)

    def record(stream: Any) -> None:
        held.clear()
        assert (len(cuda.memory), "cuCtxSynchronize" in cuda.log) == (before, False)

    gpu.capture(record)
    assert (len(cuda.memory), "cuCtxSynchronize" in cuda.log) == (before - 1, True)


@pytest.mark.native
def test_out_of_memory_says_how_much_there_is(cuda: FakeCuda) -> None:
    model = load(dumps(ModelFile({"main": lookup()})))
    ids = np.arange(3)
    wanted = model(ids)
    cuda.room = sum(map(len, cuda.memory.values())) + 100_000
    with pytest.raises(DeviceMemoryError, match=r"GPU 0 \(Fake GPU\) is out of memory, 5 of 80,0"):
        model(np.zeros(200_000, np.int64))
    np.testing.assert_array_equal(model(ids), wanted)


@pytest.mark.native
def test_a_gpu_that_fails_is_named(cuda: FakeCuda) -> None:
    model = load(dumps(ModelFile({"main": lookup()})))
    cuda.status = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(DeviceError, match=r"GPU 0 \(Fake GPU\) failed: .*ILLEGAL_ADDRESS"):
        model(np.arange(3))
    cuda.status = CUresult.CUDA_SUCCESS


@pytest.mark.native
def test_a_forked_process_is_told_what_to_do(cuda: FakeCuda) -> None:
    model = load(dumps(ModelFile({"main": lookup()})))
    model._executor.device.left_behind()  # type: ignore[union-attr]
    with pytest.raises(DeviceError, match="forked process"):
        model(np.arange(3))


def test_what_is_missing_is_named_in_one_line(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str = "cuda") -> str:
        with pytest.raises(DeviceError) as caught:
            lightrnn.load(CONTENT, device=name)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no GPU 3: the driver shows 1, numbered from 0" in refused("cuda:3")
    cuda.devices = 0
    assert "the driver shows none; does CUDA_VISIBLE_DEVICES hide it?" in refused()
    cuda.has_driver = False
    assert "no NVIDIA driver" in refused()
    cuda.core.__version__ = "0.7.0"
    assert "cuda-core is 0.7.0, expected 1.0 or newer" in refused()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "pip install 'lightrnn[cuda]'" in refused()


def test_missing_kernels_are_named(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(image, "load", lambda: None)
    with pytest.raises(DeviceError, match="lightrnn build-kernels --cuda"):
        image.find_image((9, 0))


@pytest.mark.native
def test_auto_takes_what_works(cuda: FakeCuda) -> None:
    assert lightrnn.load(CONTENT, device="auto").device == "cuda"
    cuda.devices = 0
    device._devices.clear()
    model = lightrnn.load(CONTENT, device="auto")
    assert model.device == "cpu"
    feeds = {"x": sequence(3, 2, 8), "lengths": np.array([3, 2], np.int32)}
    assert model.run(feeds)["y"].shape == (3, 2, 2, 8)


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "cuda:-1", "auto:0", "CUDA"])
def test_other_devices_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        lightrnn.load(CONTENT, device=name)


# DLPack


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "i4", "u1", "?"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3, 4)])
def test_dlpack_gives_and_takes(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    array = np.asarray(rng.standard_normal(shape) * 9).astype(dtype)
    capsule = dlpack.export(array.ctypes.data, shape, array.dtype, (1, 0), array)
    taken = np.from_dlpack(_Producer(capsule))
    np.testing.assert_array_equal(taken, array)
    found = dlpack.Imported(array.__dlpack__())
    assert (found.shape, found.dtype, found.device) == (shape, array.dtype, (1, 0))
    assert found.address == array.ctypes.data or not array.size


def test_dlpack_keeps_memory_as_long_as_it_is_used() -> None:
    class Owner:
        """What a capsule keeps."""

    array = np.arange(3.0)

    def exported() -> tuple[Any, weakref.ref[Owner]]:
        owner = Owner()
        capsule = dlpack.export(array.ctypes.data, (3,), array.dtype, (1, 0), owner)
        return capsule, weakref.ref(owner)

    unused, first = exported()
    capsule, second = exported()
    used = np.from_dlpack(_Producer(capsule))
    capsule, third = exported()
    imported = dlpack.Imported(capsule)
    del capsule
    assert [bool(r()) for r in (first, second, third)] == [True] * 3
    del unused
    assert [bool(r()) for r in (first, second, third)] == [False, True, True]
    del used
    assert [bool(r()) for r in (first, second, third)] == [False, False, True]
    del imported
    assert third() is None


def test_dlpack_refuses_what_it_does_not_know() -> None:
    array = np.arange(3.0)
    capsule = array.__dlpack__()
    dlpack.Imported(capsule)
    with pytest.raises(BufferError, match="used before"):
        dlpack.Imported(capsule)
    with pytest.raises(BufferError, match="no datetime64"):
        dlpack.export(0, (), np.dtype("M8[s]"), (1, 0), None)
    with pytest.raises(BufferError, match="DLPack type 5"):
        dlpack.Imported(array.astype(complex).__dlpack__())


class _Producer:
    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0
