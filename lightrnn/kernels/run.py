"""The executor and the thread team: one native call walks a whole program.

A program is a table of (kernel address, arguments address). The words of a team, each on a cache
line of its own, are int64: the number of the job (also the futex that idle workers sleep on), the
tickets of workers that want to join it, how many may, the address of its arguments, its number of
threads (0 until the caller has counted them), workers that are done, and whether to stop.

Tickets count up from minus the number of workers wanted. Taking a negative one joins the job that
is open at that moment, which then cannot end without the worker; no other is ever valid.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from lightrnn.kernels.interpreted import FUNCTIONS
from lightrnn.kernels.intrinsic import compiled, inlined, signature
from lightrnn.kernels.simd import at, i64
from lightrnn.kernels.threads import (
    SPINS,
    address_of,
    atomic_add,
    atomic_load,
    atomic_store,
    barrier,
    notify,
    pause,
    sleep_while,
    system_call,
    wait_while,
    wake,
)
from lightrnn.native.abi import SYNC_WORDS

_JOB, _TICKETS, _LIMIT, _ARGS, _THREADS, _DONE, _STOP = 0, 8, 16, 24, 32, 40, 48
_GETCPU = 309
_CLOSED = 1 << 32
"""Added to the tickets when the caller stops waiting for workers."""


def _call(context, b, sig, args):
    word = ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [word.as_pointer(), word, word])
    values = [context.cast(b, v, t, types.int64) for v, t in zip(args, sig.args, strict=True)]
    function = b.inttoptr(values[0], kind.as_pointer())
    b.call(function, [b.inttoptr(values[1], word.as_pointer()), values[2], values[3]])
    return context.get_dummy_value()


@compiled(signature(types.void, int, int, int, int), _call)
def call_kernel(kernel: int, args: int, ith: int, nth: int) -> None:
    """Call the kernel at an address with the arguments at another."""
    FUNCTIONS[kernel](i64(args), ith, nth)


def execute(table, sync, first, last, ith, nth):
    """Run the calls [first, last) of a program, all threads together, one call after the other."""
    for i in range(first, last):
        call_kernel(table[2 * i], table[2 * i + 1], ith, nth)
        if i + 1 < last:
            barrier(sync, nth)


def side_by_side(table, sync, branches, ranges, ith, nth):
    """Run `branches` parts of the program, as many at once as there are threads.

    The last ones, if they are fewer, have several threads each. ranges: the first call and the end
    of each part. A part has barrier words of its own, behind those of the run.
    """
    start = 0
    while start < branches:
        groups = min(branches - start, nth)
        group = ith * groups // nth
        first = (group * nth + groups - 1) // groups
        end = ((group + 1) * nth + groups - 1) // groups
        k = start + group
        words = at(sync, SYNC_WORDS * (k + 1))
        execute(table, words, ranges[2 * k], ranges[2 * k + 1], ith - first, end - first)
        start += groups


@inlined
def _execute_at(args, ith, nth):
    execute(i64(args[0]), i64(args[1]), args[2], args[3], ith, nth)


def team_run(team, args, workers, patience, ith, nth):
    """Run `execute` with `args` on this thread and up to `workers` of the team's.

    Waits for workers for `patience` pauses, then goes on with those that have come.
    """
    atomic_store(team, _ARGS, address_of(args))
    atomic_store(team, _LIMIT, workers)
    atomic_store(team, _THREADS, 0)
    atomic_store(team, _DONE, 0)
    atomic_store(team, _TICKETS, -workers)
    atomic_add(team, _JOB, 1)
    wake(team, _JOB)
    waited = 0
    while atomic_load(team, _TICKETS) < 0 and waited < patience:
        pause()
        waited += 1
    joined = min(atomic_add(team, _TICKETS, _CLOSED) + workers, workers)
    threads = joined + 1
    atomic_store(team, _THREADS, threads)
    notify(team, _THREADS)
    _execute_at(args, 0, threads)
    for done in range(joined):
        wait_while(team, _DONE, done)


def team_work(team, ith, nth):
    """A worker's life: wait for a job, join it if it is still open; until the stop."""
    seen = spins = 0
    while atomic_load(team, _STOP) == 0:
        job = atomic_load(team, _JOB)
        if job == seen:
            pause()
            spins += 1
            if spins >= SPINS:
                sleep_while(team, _JOB, job)
            continue
        seen, spins = job, 0
        ticket = atomic_add(team, _TICKETS, 1)
        if ticket >= 0:
            continue
        wait_while(team, _THREADS, 0)
        mine = ticket + atomic_load(team, _LIMIT) + 1
        _execute_at(i64(atomic_load(team, _ARGS)), mine, atomic_load(team, _THREADS))
        atomic_add(team, _DONE, 1)
        notify(team, _DONE)


def team_stop(team, ith, nth):
    """Let every worker return."""
    atomic_store(team, _STOP, 1)
    atomic_add(team, _JOB, 1)
    wake(team, _JOB)


def current_core(core, ith, nth):
    """The number of the processor that this thread runs on."""
    core[0] = 0
    system_call(_GETCPU, address_of(core), 0, 0)
