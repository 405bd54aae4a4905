"""What the engine promises of whole models: threads, forks, memory, errors, a process's end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.engine.executor import TEAM, team_of
from lightrnn.engine.team import Team
from lightrnn.errors import DataError, LightRNNError
from lightrnn.graph import Array
from lightrnn.kernels import run as run_module
from lightrnn.kernels import threads as waiting
from lightrnn.kernels.interpreted import Span
from lightrnn.native import library
from tests.trained import LANGID, bilstm, bilstm_feeds, langid_feeds

pytestmark = pytest.mark.native
ROOT = Path(__file__).parents[1]
Feeds = dict[str, Array]

MODELS: dict[str, tuple[Callable[[int], lightrnn.Model], list[Feeds]]] = {
    "langid": (
        lambda threads: lightrnn.load(LANGID, threads=threads),
        [langid_feeds(n, t) for n, t in ((1, 1), (1, 30), (5, 17), (64, 60), (200, 25))],
    ),
    "bilstm": (
        lambda threads: lightrnn.load(bilstm(), threads=threads),
        [bilstm_feeds(t, n) for t, n in ((1, 1), (30, 1), (17, 5), (60, 40), (200, 2), (0, 3))],
    ),
}
each_model = pytest.mark.parametrize("name", MODELS)


def results(model: lightrnn.Model, feeds: list[Feeds]) -> list[bytes]:
    """All outputs, bit for bit."""
    return [b"".join(a.tobytes() for a in model.run(f).values()) for f in feeds]


@each_model
def test_some_runs_wake_the_team(name: str) -> None:
    load, feeds = MODELS[name]
    model = load(2)
    works = [
        sum(i.work for i in model.plan({n: a.shape for n, a in f.items()}).instructions)
        for f in feeds
    ]
    assert min(works) < TEAM < max(works)
    results(model, feeds)
    kernels = library.load()
    assert kernels is not None
    assert team_of(kernels)._workers


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_workers_keep_off_the_core_of_their_caller() -> None:
    """They may run wherever it may but there; a caller with one core leaves them as they are."""
    kernels = library.load()
    assert kernels is not None
    team, before = Team(kernels), os.sched_getaffinity(0)

    def allowed(cores: set[int]) -> set[int]:
        os.sched_setaffinity(0, cores)
        team._grow(1)
        team._keep_apart()
        return os.sched_getaffinity(team._workers[0].native_id or 0)

    try:
        one, other = sorted(before)[:2]
        assert allowed({one}) == {one}
        team.stop()
        first = allowed({one, other})
        assert first == {one, other} - {team._apart_from}
        assert len(first) == 1
        assert allowed({team._apart_from}) == first
    finally:
        os.sched_setaffinity(0, before)
        team.stop()


@each_model
def test_bits_do_not_depend_on_threads(name: str) -> None:
    load, feeds = MODELS[name]
    expected = results(load(1), feeds)
    for threads in (2, 3):
        model = load(threads)
        for _ in range(3):
            assert results(model, feeds) == expected


@each_model
def test_sixteen_threads_call_one_model(name: str) -> None:
    load, feeds = MODELS[name]
    expected = results(load(1), feeds)
    model = load(2)
    wrong: list[Any] = []

    def work(k: int) -> None:
        try:
            for i in range(5):
                at = (k + i) % len(feeds)
                if results(model, [feeds[at]]) != [expected[at]]:
                    wrong.append((k, at))
        except BaseException as error:  # whatever happens in a thread must fail the test
            wrong.append(error)

    _in_threads(work, 16)
    assert wrong == []


def _in_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def test_bad_values_in_some_threads_do_not_reach_others() -> None:
    feeds = langid_feeds(64, 60)
    bad = {**feeds, "ids": feeds["ids"].copy()}
    bad["ids"][3, 5] = 10**6
    model = lightrnn.load(LANGID, threads=2)
    expected = results(model, [feeds])
    seen: list[Any] = []

    def work(k: int) -> None:
        for _ in range(10):
            try:
                seen.append(results(model, [bad if k % 2 else feeds]) == expected and k % 2 == 0)
            except DataError as error:
                seen.append(k % 2 == 1 and "Gather" in str(error))

    _in_threads(work, 8)
    assert seen == [True] * 80


def _ring(number: int, frame: object) -> None:
    raise InterruptedError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@each_model
def test_an_exception_in_the_middle_of_a_run_leaves_the_model_usable(name: str) -> None:
    """A signal's handler raises, once, at any place of a run, or in a destructor meanwhile."""
    load, feeds = MODELS[name]
    expected = results(load(1), feeds)
    model = load(2)
    before = signal.signal(signal.SIGALRM, _ring)
    interrupted = 0
    try:
        for k in range(80):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.0001 * k)
                for _ in range(100):
                    results(model, feeds)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptedError:
                interrupted += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 40
    for _ in range(2):
        assert results(model, feeds) == expected


def _in_child(model: lightrnn.Model, feeds: list[Feeds], answer: Any) -> None:
    answer.put(results(model, feeds))


def forked(model: lightrnn.Model, feeds: list[Feeds]) -> list[bytes]:
    """The results of a forked child."""
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=_in_child, args=(model, feeds, answer))
    child.start()
    try:
        found: list[bytes] = answer.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
    return found


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
may_fork = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@needs_fork
@may_fork
@each_model
def test_a_forked_child_runs_its_parents_model(name: str) -> None:
    """Shapes that the parent has met, and one that it has not."""
    load, feeds = MODELS[name]
    expected = results(load(1), feeds)
    model = load(2)
    results(model, feeds[:-1])
    assert forked(model, feeds) == expected
    assert results(model, feeds) == expected


@needs_fork
@may_fork
def test_a_child_forked_in_the_middle_of_other_threads_runs() -> None:
    load, feeds = MODELS["bilstm"]
    expected = results(load(1), feeds)
    model = load(2)
    done = threading.Event()

    def work(k: int) -> None:
        while not done.is_set():
            results(model, feeds)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert forked(model, feeds) == expected
    finally:
        done.set()
        for thread in threads:
            thread.join(60)


@needs_fork
@may_fork
def test_a_child_does_not_wait_for_a_plan_that_its_parent_was_making() -> None:
    load, feeds = MODELS["bilstm"]
    expected = results(load(1), feeds)
    model = load(1)
    held, done = threading.Event(), threading.Event()

    def hold(k: int) -> None:
        with model._store.lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold, args=(0,))
    thread.start()
    held.wait(60)
    try:
        assert forked(model, feeds) == expected
    finally:
        done.set()
        thread.join(60)


def in_fresh_process(source: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    environment.pop("LIGHTRNN_THREADS", None)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("model", "last"),
    [
        ("lightrnn.load(LANGID, threads=1), lambda t, n: langid_feeds(n, t)", (20, 10_000)),
        ("lightrnn.load(bilstm(), threads=1), bilstm_feeds", (1000, 40)),
    ],
)
def test_a_thousand_shapes_take_no_more_memory_than_the_largest_arena(
    model: str, last: tuple[int, int]
) -> None:
    """All that grows is the arena, once the caches of plans are full and Python's heap settled.

    What is freed goes back to the system at once, so that only what is kept counts. What the heap
    still wavers by is a fraction of the arena that the first shapes need and the last replaces.
    """
    done = in_fresh_process(
        f"""
        import gc, random
        import lightrnn
        from tests.trained import LANGID, bilstm, bilstm_feeds, langid_feeds

        model, feeds = {model}

        def resident():
            gc.collect()
            return int(open("/proc/self/statm").read().split()[1]) * 4096

        shapes = [(t, n) for t in range(1, 301) for n in range(1, 900 // t + 1)]
        random.Random(0).shuffle(shapes)
        for shape in shapes[:700]:
            model.run(feeds(*shape))
        before, small = resident(), model.arena_bytes
        shapes = [*shapes[700:1699], {last}]
        for shape in shapes:
            model.run(feeds(*shape))
        assert len(set(shapes)) == 1000
        print(small, model.arena_bytes, resident() - before)
        """,
        MALLOC_MMAP_THRESHOLD_="65536",
    )
    assert done.returncode == 0, done.stderr
    small, largest, growth = map(int, done.stdout.split())
    assert small < largest / 4, (small, largest)
    assert growth <= largest, (small, growth, largest)


ENDINGS = {
    "at once": "",
    "in the middle of a daemon thread's runs": """
        import threading, time
        def work():
            while True:
                model.run(feeds)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
    """,
    "by an exit code": "import sys; sys.exit(0)",
    "after a fork": """
        import os
        child = os.fork()
        if child == 0:
            model.run(feeds)
            raise SystemExit(0)
        assert os.waitpid(child, 0)[1] == 0
    """,
    "with the model in a cycle": "cycle = [model]; cycle.append(cycle); del model",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_with_a_live_team_ends_by_itself(ending: str) -> None:
    done = in_fresh_process(
        textwrap.dedent(
            """
            import lightrnn
            from lightrnn.engine.executor import team_of
            from lightrnn.native import library
            from tests.trained import bilstm, bilstm_feeds

            model, feeds = lightrnn.load(bilstm(), threads=2), bilstm_feeds(200, 8)
            model.run(feeds)
            assert team_of(library.load())._workers
            print("ran")
            """
        )
        + textwrap.dedent(ENDINGS[ending])
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ran")


def test_a_run_needs_no_more_threads_than_the_system_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = library.load()
    assert kernels is not None
    load, feeds = MODELS["bilstm"]
    expected = results(load(1), feeds)
    team = Team(kernels)
    monkeypatch.setattr("lightrnn.engine.executor.team_of", lambda _: team)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert results(load(4), feeds) == expected
    assert team._workers == []
    assert results(load(4), feeds) == expected
    assert len(team._workers) == 3
    team.close()
    assert results(load(4), feeds) == expected
    assert team._workers == []


def test_a_worker_that_was_held_up_joins_only_a_job_that_counts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held up between taking a ticket of a full job and looking at it, while another job opens."""
    words = np.zeros(64, np.int64)
    team = Span(words)
    joined: list[tuple[int, int]] = []
    tickets = run_module._TICKETS
    plain = waiting.atomic_add

    def open_job(workers: int) -> None:
        words[run_module._LIMIT] = workers
        words[run_module._THREADS] = workers + 1
        words[tickets] = -workers
        words[run_module._JOB] += 1

    def held_up(p: Span, i: int, value: int) -> int:
        old = plain(p, i, value)
        if i == tickets and words[run_module._JOB] == 1:
            open_job(3)
        return old

    def execute(args: Any, ith: int, nth: int) -> None:
        joined.append((ith, nth))
        words[run_module._STOP] = 1

    monkeypatch.setattr(run_module, "atomic_add", held_up)
    monkeypatch.setattr(run_module, "_execute_at", execute)
    open_job(1)
    words[tickets] = 0  # the only ticket is taken
    work: Callable[[Span, int, int], None] = run_module.team_work
    work(team, 0, 1)
    assert joined == [(1, 4)]
    assert words[tickets] == -2


def test_models_with_errors_at_the_start_do_not_hold_the_team() -> None:
    model = lightrnn.load(bilstm(), threads=2)
    feeds = bilstm_feeds(60, 40)
    expected = results(model, [feeds])
    for _ in range(3):
        with pytest.raises(LightRNNError):
            model.run({**feeds, "lengths": np.full(40, 61, np.int32)})
        assert results(model, [feeds]) == expected
