"""How threads of one run wait for each other: atomics, a spin barrier, and system calls.

Nothing here touches a C library: the futex is a system call written in assembly.
"""

from __future__ import annotations

import time

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lightrnn.kernels.interpreted import Span
from lightrnn.kernels.intrinsic import POINTERS, compiled, inlined, signature
from lightrnn.kernels.simd import at

_I64 = ir.IntType(64)
_WORDS = POINTERS["i64"]
SPINS = 2000
"""Pauses before a waiting thread sleeps: some 40 µs."""


def _word(context, b, sig, args):
    return b.gep(args[0], [context.cast(b, args[1], sig.args[1], types.int64)])


def _value(context, b, sig, args, k):
    return context.cast(b, args[k], sig.args[k], types.int64)


@compiled(
    signature(types.int64, _WORDS, int, int),
    lambda c, b, sig, a: b.atomic_rmw(
        "add", _word(c, b, sig, a), _value(c, b, sig, a, 2), "seq_cst"
    ),
)
def atomic_add(p: Span, i: int, value: int) -> int:
    """Add to p[i] and return what it was."""
    old = int(p[i])
    p[i] = old + value
    return old


@compiled(
    signature(types.int64, _WORDS, int),
    lambda c, b, sig, a: b.load_atomic(_word(c, b, sig, a), "seq_cst", 8),
)
def atomic_load(p: Span, i: int) -> int:
    """p[i], in order with other threads' stores."""
    return int(p[i])


@compiled(signature(types.int64, "pointer"), lambda c, b, sig, a: b.ptrtoint(a[0], _I64))
def address_of(p: Span) -> int:
    """The address of p[0]."""
    return int(p.items.__array_interface__["data"][0]) + p.start * p.items.itemsize


def _store(context, b, sig, args):
    b.store_atomic(_value(context, b, sig, args, 2), _word(context, b, sig, args), "seq_cst", 8)
    return context.get_dummy_value()


@compiled(signature(types.void, _WORDS, int, int), _store)
def atomic_store(p: Span, i: int, value: int) -> None:
    """Set p[i], in order with other threads' loads."""
    p[i] = value


def _pause(context, b, sig, args):
    kind = ir.FunctionType(ir.VoidType(), [])
    b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse2.pause"), [])
    return context.get_dummy_value()


@compiled(signature(types.void), _pause)
def pause() -> None:
    """Tell the core that this is a waiting loop."""


def _system_call(context, b, sig, args):
    """Linux x86-64: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9."""
    values = [context.cast(b, v, t, types.int64) for v, t in zip(args, sig.args, strict=True)]
    kind = ir.FunctionType(_I64, [_I64] * 7)
    constraints = (
        "={rax},{rax},{rdi},{rsi},{rdx},{r10},{r8},{r9},~{rcx},~{r11},~{memory},"
        "~{dirflag},~{fpsr},~{flags}"
    )
    zeros = [ir.Constant(_I64, 0)] * (7 - len(values))
    return b.asm(kind, "syscall", constraints, values + zeros, side_effect=True)


@compiled(signature(types.int64, int, int, int, int), _system_call)
def system_call(number: int, a: int, b: int, c: int) -> int:
    """A Linux system call with up to three arguments; interpreted, a pause whatever is asked."""
    time.sleep(0)
    return 0


_FUTEX, _WAIT, _WAKE = 202, 128, 129
_EVERYBODY = 0x7FFFFFFF


@inlined
def sleep_while(p, i, value):
    """Sleep while p[i] is `value`, until `wake` is called for it; it may return early."""
    system_call(_FUTEX, address_of(at(p, i)), _WAIT, value)


@inlined
def wake(p, i):
    """Wake all threads that sleep on p[i]."""
    system_call(_FUTEX, address_of(at(p, i)), _WAKE, _EVERYBODY)


@inlined
def wait_while(p, i, value):
    """Wait until p[i], which others change and then `notify`, is no longer `value`.

    p[i + 1] counts those that sleep. A thread that has waited for long sleeps, and does not merely
    yield: it may share a core with the one that it waits for, and who wakes up may get another.
    """
    spins = 0
    while atomic_load(p, i) == value:
        pause()
        spins += 1
        if spins >= SPINS:
            atomic_add(p, i + 1, 1)
            sleep_while(p, i, value)
            atomic_add(p, i + 1, -1)
            spins = 0


@inlined
def notify(p, i):
    """Wake those that `wait_while` has put to sleep on p[i], which has just changed."""
    if atomic_load(p, i + 1) > 0:
        wake(p, i)


@inlined
def barrier(sync, nth):
    """Wait until all `nth` threads have come here.

    sync: int64 [16]; sync[0] counts arrivals and is zero between barriers, sync[8] counts barriers,
    sync[9] the threads that sleep.
    """
    if nth == 1:
        return
    turn = atomic_load(sync, 8)
    if atomic_add(sync, 0, 1) == nth - 1:
        atomic_store(sync, 0, 0)
        atomic_store(sync, 8, turn + 1)
        notify(sync, 8)
    else:
        wait_while(sync, 8, turn)
