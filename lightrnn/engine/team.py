"""The native thread team: workers that sleep inside the kernel library between runs."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from contextlib import suppress

import numpy as np

from lightrnn.engine.memory import address, aligned_bytes
from lightrnn.errors import InputError
from lightrnn.native.library import Library

PATIENCE = 2000
"""Work, in multiply-adds, for each pause that a run waits for workers to wake: a tenth of its time
at most. A core that sleeps may take a hundred microseconds; who comes later sits the run out.
"""

APART = 8
"""Workers at most that are told where to run: more would take longer to tell than it saves."""


def default_threads() -> int:
    """Threads that a run may use: LIGHTRNN_THREADS, else the cores that this process may use."""
    if given := os.environ.get("LIGHTRNN_THREADS"):
        if not given.isdecimal() or int(given) < 1:
            raise InputError(f"LIGHTRNN_THREADS is {given!r}, expected a positive number")
        return int(given)
    return available_cores()


def available_cores() -> int:
    """The cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _quota()))


def _quota() -> int:
    """Cores that the control group allows, rounded up; many if it sets no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):
        return 1 << 16


class Team:
    """All workers of this process. One run uses them at a time; others run on their own thread."""

    def __init__(self, library: Library) -> None:
        kinds = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
        without_gil = ctypes.CFUNCTYPE(None, *kinds)
        self._run = without_gil(library.addresses["team_run"])
        self._work = without_gil(library.addresses["team_work"])
        self._stop = without_gil(library.addresses["team_stop"])
        self._core_of = ctypes.PYFUNCTYPE(None, *kinds)(library.addresses["current_core"])
        self._closed = False
        self._reset()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Forget the workers: a forked child has none."""
        self._words = aligned_bytes(7 * 64).view(np.int64)
        self._words[:] = 0
        self._args = np.array([address(self._words)], np.int64)
        self._job = np.zeros(4, np.int64)
        self._job[0] = address(self._words)
        self._core = np.zeros(1, np.int64)
        self._where = np.array([address(self._core)], np.int64)
        self._apart_from = -1
        self._workers: list[threading.Thread] = []
        self._busy = threading.Lock()

    def try_run(self, args: int, threads: int, work: int) -> bool:
        """Run the executor's `args` on up to `threads` threads; False if the team is in use.

        work: multiply-adds of the program.
        """
        if self._closed or not self._busy.acquire(blocking=False):
            return False
        try:
            self._grow(threads - 1)
            self._keep_apart()
            self._job[1:] = (args, min(threads - 1, len(self._workers)), work // PATIENCE)
            self._run(address(self._job), 0, 1)
        finally:
            self._busy.release()
        return True

    def _grow(self, workers: int) -> None:
        """Have this many workers, or as many as the system lets start."""
        while len(self._workers) < workers:
            worker = threading.Thread(
                target=self._work, args=(address(self._args), 0, 1), daemon=True, name="lightrnn"
            )
            try:
                worker.start()
            except RuntimeError:
                return
            self._workers.append(worker)
            self._apart_from = -1

    def _keep_apart(self) -> None:
        """Let workers run where this thread may, but for the core that it is on.

        On a busy machine the scheduler may wake a worker on the core of who wakes it, where it
        would have to wait for the one that waits for it.
        """
        self._core_of(address(self._where), 0, 1)
        here = int(self._core[0])
        few = len(self._workers) <= APART and hasattr(os, "sched_setaffinity")
        if here == self._apart_from or not few:
            return
        self._apart_from = here
        if cores := os.sched_getaffinity(0) - {here}:
            for worker in self._workers:
                if worker.native_id is not None:
                    with suppress(OSError):
                        os.sched_setaffinity(worker.native_id, cores)

    def stop(self) -> None:
        """Let all workers return, and wait for them and for the run that uses them."""
        with self._busy:
            workers, self._workers = self._workers, []
            if workers:
                self._stop(address(self._args), 0, 1)
            for worker in workers:
                worker.join()
            self._words[:] = 0

    def close(self) -> None:
        """Stop for good; later runs stay on their own thread."""
        self._closed = True
        self.stop()
