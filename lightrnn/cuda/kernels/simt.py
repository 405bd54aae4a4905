"""What GPU kernels are written in: threads of a grid, pointers, single precision, shared memory.

Each function has two forms under one name. Called from Python it is its own body, on bounds-checked
spans, in the thread of the grid that `HERE` says; `cuda.kernels.lowering` gives it a compiled form.
A grid and its blocks have one dimension. Kernels call nothing but what is here, and helpers marked
`inlined`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from lightrnn.kernels import interpreted
from lightrnn.kernels.interpreted import Span

Function = TypeVar("Function", bound=Callable[..., Any])

INLINED: list[Callable[..., Any]] = []
"""Helpers that are compiled into the kernels that call them."""


def inlined(function: Function) -> Function:
    """Mark a helper that kernels call; it stays a plain function."""
    INLINED.append(function)
    return function


class Here(threading.local):
    """Where in a grid this Python thread is, while a kernel runs interpreted.

    wait: meets the other threads of the block. pause: lets other threads run. memory: the block's
    shared memory. board: a place for each thread of the block.
    """

    thread: int = 0
    threads: int = 1
    block: int = 0
    blocks: int = 1
    wait: Callable[[], object] = staticmethod(lambda: None)
    pause: Callable[[], object] = staticmethod(lambda: None)
    memory: Any = None
    board: Any = None


HERE = Here()
_ATOMIC = threading.RLock()


# Threads


def thread() -> int:
    """The number of this thread in its block."""
    return HERE.thread


def threads() -> int:
    """The threads of a block."""
    return HERE.threads


def block() -> int:
    """The number of this block in the grid."""
    return HERE.block


def blocks() -> int:
    """The blocks of the grid."""
    return HERE.blocks


def barrier() -> None:
    """Wait for all threads of the block; what they wrote before is seen after."""
    HERE.wait()


def other(x: Any, bit: int) -> Any:
    """x of the thread whose number differs in `bit`, a power of two below 32.

    All threads of the block call it together; their number is a multiple of 2 * bit.
    """
    HERE.board[HERE.thread] = x
    HERE.wait()
    found = HERE.board[HERE.thread ^ bit]
    HERE.wait()
    return found


def shared() -> Any:
    """The block's dynamic shared memory, as float32, 16-byte aligned."""
    return Span(HERE.memory)


def shared_ints() -> Any:
    """The same memory as `shared`, as int32."""
    return Span(HERE.memory.view(np.int32))


# Pointers


def address_of(p: Any) -> int:
    """The address of p[0]."""
    return int(p.items.__array_interface__["data"][0]) + p.start * p.items.itemsize


def f32(address: int) -> Any:
    """The float32 elements at an address."""
    return interpreted.MEMORY.span(address, np.float32)


def f64(address: int) -> Any:
    """The float64 elements at an address."""
    return interpreted.MEMORY.span(address, np.float64)


def i64(address: int) -> Any:
    """The int64 elements at an address."""
    return interpreted.MEMORY.span(address, np.int64)


def i32(address: int) -> Any:
    """The int32 elements at an address."""
    return interpreted.MEMORY.span(address, np.int32)


def u16(address: int) -> Any:
    """The uint16 elements at an address."""
    return interpreted.MEMORY.span(address, np.uint16)


def u8(address: int) -> Any:
    """The bytes at an address."""
    return interpreted.MEMORY.span(address, np.uint8)


def at(p: Any, n: int) -> Any:
    """The pointer `n` elements on."""
    return p.at(n)


def null(p: Any) -> bool:
    """Whether the pointer is null."""
    return p is None


@inlined
def moved(p, n):
    """The pointer `n` elements on; null stays null."""
    if null(p):
        return p
    return at(p, n)


# Loads and stores


def _four(p: Any, i: int) -> Any:
    assert address_of(p.at(i)) % 16 == 0, f"element {i} does not lie at a multiple of 16 bytes"
    return p.lanes(i, 4)


def load4(p: Any, i: int) -> Any:
    """p[i] to p[i + 3] as a tuple; their address is a multiple of 16."""
    return tuple(_four(p, i))


def store4(p: Any, i: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """Write p[i] to p[i + 3]; their address is a multiple of 16."""
    _four(p, i)[:] = (a, b, c, d)


def fresh4(p: Any, i: int) -> Any:
    """load4 of global memory that another block may have written: past the nearest cache."""
    return tuple(_four(p, i))


def half(p: Any, i: int) -> Any:
    """The float16 p[i] of uint16 elements, widened."""
    return p.lanes(i, 1).view(np.float16)[0].astype(np.float32)


def bfloat(p: Any, i: int) -> Any:
    """The bfloat16 p[i] of uint16 elements, widened."""
    return (p.lanes(i, 1).astype(np.uint32) << np.uint32(16)).view(np.float32)[0]


def fetch(target: Any, i: int, source: Any, j: int) -> None:
    """Begin to copy the float32 source[j] of global memory to target[i] of shared memory.

    The thread may read it after `fetched`.
    """
    target[i] = source[j]


def fetched() -> None:
    """Wait for this thread's own copies by `fetch`."""


# Between blocks


def count_up(p: Any, i: int, n: int) -> None:
    """Add n to the int64 p[i], after all that this block wrote before its last barrier."""
    with _ATOMIC:
        p[i] += n


def take_ticket(p: Any, i: int) -> int:
    """Add 1 to the int64 p[i] and return what it was, in order with this block's other memory."""
    with _ATOMIC:
        was = int(p[i])
        p[i] = was + 1
        return was


def counted(p: Any, i: int) -> int:
    """The int64 p[i] now; what its writers wrote before `count_up` is seen after."""
    with _ATOMIC:
        return int(p[i])


def put_tagged(p: Any, i: int, value: Any, tag: int) -> None:
    """Write a float32 and a 32-bit tag as one word, p[i] of int64 elements."""
    p[i] = (int(np.float32(value).view(np.int32)) & 0xFFFFFFFF) | (np.int64(tag) << 32)


def get_tagged(p: Any, i: int) -> Any:
    """The int64 p[i] and p[i + 1] as written by `put_tagged`, past the nearest cache; i is even."""
    return int(p[i]), int(p[i + 1])


def tag_of(word: int) -> int:
    """The tag of a word, 0 to 2**32 - 1."""
    return (word >> 32) & 0xFFFFFFFF


def value_of(word: int) -> Any:
    """The float32 of a word."""
    return np.uint32(word & 0xFFFFFFFF).view(np.float32)


def pause() -> None:
    """Let others run while this thread waits for a word of memory."""
    HERE.pause()


# Numbers


def single(x: Any) -> Any:
    """x as float32."""
    return np.float32(x)


def double(x: Any) -> Any:
    """x as float64."""
    return np.float64(x)


def as_float(bits: int) -> float:
    """The float64 whose bits an integer holds."""
    return float(np.array(bits, np.int64).view(np.float64))


def whole(x: Any) -> int:
    """A float cut to an int64; some int64 for NaN, and for what is out of range."""
    return int(max(-(2.0**63), min(2.0**63 - 1024.0, float(x)))) if x == x else -(2**63)


def quotient(n: int, d: int) -> int:
    """n // d, neither below 0."""
    return n // d


def exp(x: Any) -> Any:
    """e**x."""
    return np.exp(np.float32(x))


def expm1(x: Any) -> Any:
    """e**x - 1."""
    return np.expm1(np.float32(x))


def log(x: Any) -> Any:
    """Natural logarithm."""
    return np.log(np.float32(x))


def log1p(x: Any) -> Any:
    """log(1 + x)."""
    return np.log1p(np.float32(x))


def sin(x: Any) -> Any:
    """Sine."""
    return np.sin(np.float32(x))


def cos(x: Any) -> Any:
    """Cosine."""
    return np.cos(np.float32(x))


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(np.float32(x))


def erf(x: Any) -> Any:
    """Error function."""
    return np.float32(math.erf(x))


def square_root(x: Any) -> Any:
    """Square root, correctly rounded."""
    return np.sqrt(np.float32(x))


def floor(x: Any) -> Any:
    """The largest whole number up to x."""
    return np.floor(np.float32(x))


def ceil(x: Any) -> Any:
    """The smallest whole number from x on."""
    return np.ceil(np.float32(x))


def round_even(x: Any) -> Any:
    """The nearest whole number, halves to the even one."""
    return np.rint(np.float32(x))


@inlined
def absolute(x):
    """|x|; of -0.0 it is 0.0."""
    return -x if x < 0 else x + single(0.0)


@inlined
def maximum(x, y):
    """The larger, or NaN where one is."""
    return x if x > y or x != x else y


@inlined
def minimum(x, y):
    """The smaller, or NaN where one is."""
    return x if x < y or x != x else y


@inlined
def sigmoid(x):
    """1 / (1 + e**-x)."""
    return single(1.0) / (single(1.0) + exp(-x))


@inlined
def softplus(x):
    """log(1 + e**x)."""
    return maximum(x, single(0.0)) + log1p(exp(-absolute(x)))


@inlined
def first_item():
    """The number of this thread in the grid."""
    return block() * threads() + thread()


@inlined
def all_threads():
    """The threads of the grid."""
    return blocks() * threads()
