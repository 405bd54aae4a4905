"""Models on a GPU of host memory: the executor, arrays there, streams, threads and failures."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import convert_onnx

import lightrnn
from lightrnn.cuda import DeviceArray, arena, device
from lightrnn.cuda.executor import CudaExecutor
from lightrnn.errors import DataError, DeviceError, DeviceMemoryError, InputError
from lightrnn.format import ModelFile, dumps
from lightrnn.graph import Array, Graph
from tests import control_models, streams
from tests.cuda_graphs import Interface, lookup, nonzero, nonzero_free, stepping
from tests.host_device import HostDevice, SimulatedDevice, in_place
from tests.test_engine import recurrent_graph, sequence

pytestmark = pytest.mark.native


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostDevice]:
    yield from in_place(HostDevice(), monkeypatch)


def pair(graph: Graph) -> tuple[lightrnn.Model, lightrnn.Model]:
    """A model on the CPU and on the GPU."""
    content = dumps(ModelFile({"main": graph}))
    return lightrnn.load(content, threads=1), lightrnn.load(content, device="cuda")


SHAPES = ((5, 3), (7, 2), (5, 3), (5, 3), (40, 1), (1, 1), (0, 2), (3, 0), (7, 2))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_runs_of_any_shapes_give_the_cpus_bits(gpu: HostDevice, op: str) -> None:
    cpu, model = pair(recurrent_graph(op, 24, lengths=True))
    for k, (time, batch) in enumerate(SHAPES):
        feeds = {"x": sequence(time, batch, 24, k), "lengths": np.arange(batch, dtype=np.int32)}
        feeds["lengths"] %= max(time, 1)
        np.testing.assert_array_equal(model.run(feeds)["y"], cpu.run(feeds)["y"])
    assert model.device == "cuda"
    assert gpu.counts["capture"] <= 2 * len(set(SHAPES))


def test_a_plan_is_captured_once_and_replayed(gpu: HostDevice) -> None:
    cpu, model = pair(recurrent_graph("LSTM", 16))
    for k in range(6):
        x = sequence(4, 2, 16, k)
        np.testing.assert_array_equal(model(x), cpu(x))
    assert (gpu.counts["capture"], gpu.counts["replay"]) == (1, 5)


def test_weights_are_uploaded_once_a_model(gpu: HostDevice) -> None:
    _, model = pair(recurrent_graph("LSTM", 32))
    executor = model._executor
    model(sequence(4, 2, 32))
    before = executor.constants.nbytes  # type: ignore[union-attr]
    for time in (5, 6, 7):
        model(sequence(time, 2, 32))
    assert executor.constants.nbytes == before  # type: ignore[union-attr]
    assert before >= 2 * 2 * 4 * 32 * 32 * 4


def test_a_bad_index_names_its_node_and_the_next_run_is_right(gpu: HostDevice) -> None:
    cpu, model = pair(lookup())
    ids = np.array([1, 8, 0])
    for _ in range(3):
        with pytest.raises(DataError, match="embedding"):
            model(np.array([1, 9, 0]))
        np.testing.assert_array_equal(model(ids), cpu(ids))


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("example", control_models.EXAMPLES, ids=str)
def test_control_flow_and_shapes_that_depend_on_values(
    gpu: HostDevice, tmp_path: Any, example: Any, where: str
) -> None:
    convert_onnx(example.make(), tmp_path / "m.lrnn")
    cpu = lightrnn.load(tmp_path / "m.lrnn", threads=1)
    model = lightrnn.load(tmp_path / "m.lrnn", device="cuda")
    for feeds in (*example.feeds, *example.feeds):
        given = feeds if where == "host" else {n: Interface(a) for n, a in feeds.items()}
        for name, found in model.run(given).items():
            assert isinstance(found, np.ndarray if where == "host" else DeviceArray)
            np.testing.assert_array_equal(np.asarray(found), cpu.run(feeds)[name])


def test_a_tail_takes_what_lies_on_the_gpu(gpu: HostDevice) -> None:
    cpu, model = pair(nonzero())
    x = sequence(6, 2, 3)[..., 0] * (np.arange(12).reshape(6, 2) % 3 > 0).astype(np.float32)
    for given in (x, Interface(x)):
        found = model.run({"x": given})
        for name, wanted in cpu.run({"x": x}).items():
            np.testing.assert_array_equal(np.asarray(found[name]), wanted)


def test_large_arrays_are_copied_directly(gpu: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "MOST_PINNED", 1000)
    cpu, model = pair(recurrent_graph("LSTM", 16, lengths=True))
    for k in range(4):
        feeds = {"x": sequence(9, 2, 16, k)[::-1], "lengths": np.array([9, k], np.int32)}
        np.testing.assert_array_equal(model.run(feeds)["y"], cpu.run(feeds)["y"])
    small = {"x": sequence(1, 1, 16), "lengths": np.array([1], np.int32)}
    np.testing.assert_array_equal(model.run(small)["y"], cpu.run(small)["y"])


# Arrays on the GPU


FORMS: Mapping[str, Callable[[Array], Any]] = {
    "interface": Interface,
    "transposed": lambda a: Interface(np.ascontiguousarray(a.T).T),
    "reversed": lambda a: Interface(np.ascontiguousarray(a[::-1])[::-1]),
    "every other": lambda a: Interface(np.repeat(a, 2, axis=-1)[..., ::2]),
    "broadcast": lambda a: Interface(np.broadcast_to(a[:1], a.shape)),
    "dlpack": lambda a: torch.from_numpy(a.copy()),
    "dlpack transposed": lambda a: torch.from_numpy(np.ascontiguousarray(a.T)).T,
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_on_the_gpu_are_read_where_they_are(gpu: HostDevice, form: str) -> None:
    cpu, model = pair(nonzero_free())
    x = sequence(5, 4, 3)[..., 0]
    given = FORMS[form](x)
    if form == "broadcast":
        x = np.broadcast_to(x[:1], x.shape)
    for _ in range(3):
        found = model(given)
        assert isinstance(found, DeviceArray)
        assert (found.shape, found.dtype, len(found), found.ndim) == (x.shape, x.dtype, 5, 2)
        np.testing.assert_array_equal(found.numpy(), cpu(x))


def test_results_on_the_gpu_are_inputs_and_other_libraries_arrays(gpu: HostDevice) -> None:
    cpu, model = pair(nonzero_free())
    x = sequence(5, 4, 3)[..., 0]
    wanted = cpu(cpu(x))
    once = model(Interface(x))
    twice = model(once)
    assert isinstance(twice, DeviceArray)
    np.testing.assert_array_equal(twice.numpy(), wanted)
    np.testing.assert_array_equal(np.asarray(twice), wanted)
    tensor = torch.from_dlpack(twice)
    place = twice.address
    del twice
    gc.collect()
    assert tensor.data_ptr() == place
    np.testing.assert_array_equal(tensor.numpy(), wanted)
    del tensor
    gc.collect()
    gpu.settle()
    with pytest.raises(AssertionError):
        gpu.view(place, 4)


def test_a_producers_stream_is_waited_for(gpu: HostDevice) -> None:
    cpu, model = pair(nonzero_free())
    gpu.activate()
    x, late = sequence(5, 4, 3)[..., 0], gpu.stream()
    for _ in range(3):
        array = np.full_like(x, np.nan)
        late.put(partial(np.copyto, array, x))
        found = model(Interface(array, late.handle))
        np.testing.assert_array_equal(np.asarray(found), cpu(x))


def test_on_a_callers_stream_nothing_waits_for_results(gpu: HostDevice) -> None:
    cpu, model = pair(nonzero_free())
    gpu.activate()
    mine, x = gpu.stream(), sequence(5, 4, 3)[..., 0]
    array = x.copy()
    model(Interface(array), stream=mine.handle)
    before = gpu.counts["synchronize"]
    results = []
    for k in range(4):
        mine.put(partial(np.copyto, array, x + k))
        results.append(model(Interface(array), stream=mine.handle))
    assert gpu.counts["synchronize"] == before
    for k, found in enumerate(results):
        np.testing.assert_array_equal(np.asarray(found), cpu(x + np.float32(k)))


def test_a_callers_stream_is_waited_for_where_values_are_checked(gpu: HostDevice) -> None:
    _, model = pair(lookup())
    gpu.activate()
    ids, mine = Interface(np.array([1, 99])), gpu.stream()
    with pytest.raises(DataError, match="embedding"):
        model.run({"ids": ids}, stream=mine.handle)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Interface(np.zeros((2, 3))), "input 'x' is float64, expected float32"),
        (Interface(np.zeros(2, np.float32)), "expected rank 2"),
        (Interface(np.zeros((2, 3), np.float32), mask=object()), "input 'x': .*mask"),
        (torch.zeros(2, 3, requires_grad=True), "input 'x': .*grad"),
        (torch.zeros(2, 3, dtype=torch.bfloat16), "input 'x': .*DLPack type 4 of 16 bits"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(gpu: HostDevice, given: Any, message: str) -> None:
    _, model = pair(nonzero_free())
    with pytest.raises(InputError, match=message):
        model(given)


def test_streams_are_for_gpus_and_must_be_streams(gpu: HostDevice) -> None:
    cpu, model = pair(nonzero_free())
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="for models on a GPU"):
        cpu(x, stream=1)
    with pytest.raises(InputError, match="str is not a stream"):
        model(x, stream="first")
    np.testing.assert_array_equal(model(x, stream=0), x)


def test_memory_is_freed_after_its_users(gpu: HostDevice) -> None:
    _, model = pair(nonzero_free())
    found = model(Interface(np.ones((2, 3), np.float32)))
    assert isinstance(found, DeviceArray)
    consumer = gpu.stream()
    found.__dlpack__(stream=consumer.handle)
    assert found.memory.users[-1] is consumer  # type: ignore[attr-defined]
    assert found.__cuda_array_interface__["strides"] is None
    assert found.memory.users[-1] is None  # type: ignore[attr-defined]


# Streams of pieces


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("initial", ["zeros", "given"])
def test_pieces_give_the_whole(gpu: HostDevice, op: str, initial: str) -> None:
    content = dumps(ModelFile({"main": streams.stack(op, 2, initial=initial)}))
    model = lightrnn.load(content, device="cuda")
    rng = np.random.default_rng(0)
    known: dict[Any, Any] = {"T": 13, "N": 2}
    feeds = {}
    for spec in model.inputs:
        shape: list[Any] = [known.get(size, size) for size in spec.shape or ()]
        feeds[spec.name] = rng.standard_normal(shape).astype(np.float32)
    streams.assert_whole(model, feeds, {"x0": 0}, {"x2": 0, "h1": None})


def test_the_gpus_own_kernels_run_models_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimulatedDevice()
    monkeypatch.setattr(device, "open_device", lambda index: made)
    cpu, model = pair(stepping())
    ours, theirs = model.stream(), cpu.stream()
    for k in range(4):
        ids = {"ids": np.array([[k], [8 - k]])}
        pairs = (model.run(ids), cpu.run(ids)), (ours.step(ids), theirs.step(ids))
        for found, wanted in pairs:
            np.testing.assert_allclose(found["y"], wanted["y"], rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="embedding"):
        model.run({"ids": np.array([[9]])})


def test_a_step_is_one_launch_and_a_failed_one_changes_nothing(gpu: HostDevice) -> None:
    cpu, model = pair(stepping())
    ours, theirs = model.stream(), cpu.stream()
    for k in range(8):
        if k == 5:
            with pytest.raises(DataError, match="embedding"):
                ours.step({"ids": np.array([[77]])})
        before = gpu.counts.copy()
        ids = np.array([[k % 9]])
        np.testing.assert_array_equal(ours.step({"ids": ids})["y"], theirs.step({"ids": ids})["y"])
        if k > 2:
            made = {n: gpu.counts[n] - before[n] for n in gpu.counts if gpu.counts[n] - before[n]}
            assert made == {"replay": 1, "synchronize": 1, "copy": 1}
    other = ours.copy()
    for k in range(3):
        ids = np.array([[k]])
        wanted = theirs.step({"ids": ids})["y"]
        np.testing.assert_array_equal(ours.step({"ids": ids})["y"], wanted)
        np.testing.assert_array_equal(other.step({"ids": ids})["y"], wanted)


def test_steps_with_arrays_on_the_gpu_and_a_callers_stream(gpu: HostDevice) -> None:
    cpu, model = pair(stepping())
    gpu.activate()
    ours, theirs, mine = model.stream(), cpu.stream(), gpu.stream()
    for k in range(6):
        ids = np.array([[k]])
        found = ours.step({"ids": Interface(ids)}, stream=mine.handle)["y"]
        assert isinstance(found, DeviceArray)
        np.testing.assert_array_equal(found.numpy(), theirs.step({"ids": ids})["y"])


# Many at once, and what goes wrong


def test_models_and_threads_share_a_gpu(gpu: HostDevice) -> None:
    pairs = [pair(recurrent_graph(op, 16)) for op in ("LSTM", "GRU")]
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for k in range(12):
                cpu, model = pairs[(seed + k) % 2]
                x = sequence(3 + (seed + k) % 3, 2, 16, seed * 100 + k)
                np.testing.assert_array_equal(model(x), cpu(x))
        except BaseException as error:  # raised again below
            errors.append(error)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors, errors[0]


def test_out_of_memory_is_an_error_that_leaves_the_model_usable(gpu: HostDevice) -> None:
    cpu, model = pair(recurrent_graph("LSTM", 16))
    x, long = sequence(4, 2, 16), sequence(400, 2, 16)
    model(x)
    gpu.room = gpu.used + 20_000
    for given in (long, Interface(long)):
        with pytest.raises(DeviceMemoryError):
            model(given)
        np.testing.assert_array_equal(model(x), cpu(x))
    gpu.room = 2**40
    np.testing.assert_array_equal(model(long), cpu(long))


def test_idle_memory_is_given_up_before_a_run_fails(gpu: HostDevice) -> None:
    cpu, model = pair(nonzero_free())
    executor = model._executor
    assert isinstance(executor, CudaExecutor)
    model(np.ones((5, 4), np.float32))
    idle = [executor.new_arena() for _ in range(2)]
    for one in idle:
        executor.frame(one, model.plan({"x": (100, 100)}))
    executor._arenas[:0] = idle
    del idle, one
    gpu.room = gpu.used + 1000
    x = np.ones((120, 100), np.float32)
    np.testing.assert_array_equal(model(x), cpu(x))
    assert len(executor._arenas) == 1


def test_a_pickled_model_keeps_its_device(gpu: HostDevice) -> None:
    cpu, model = pair(recurrent_graph("GRU", 16))
    again = pickle.loads(pickle.dumps(model))
    assert (again.device, pickle.loads(pickle.dumps(cpu)).device) == ("cuda", "cpu")
    np.testing.assert_array_equal(again(sequence(3, 2, 16)), cpu(sequence(3, 2, 16)))


def test_a_gpu_that_fails_is_an_error_of_ours(gpu: HostDevice) -> None:
    _, model = pair(recurrent_graph("GRU", 16))
    model(sequence(3, 2, 16))
    gpu.failing = "GPU 0 fell off the bus"
    with pytest.raises(DeviceError, match="fell off the bus"):
        model(sequence(3, 2, 16))
