"""What blocks of a whole sequence keep and hand to each other; see `persistent`."""

from __future__ import annotations

from lightrnn.cuda.grid import COUNTERS, EPOCH, LEFT
from lightrnn.cuda.kernels.cells import old_state
from lightrnn.cuda.kernels.gemm import between, weight
from lightrnn.cuda.kernels.simt import (
    barrier,
    counted,
    get_tagged,
    inlined,
    pause,
    quotient,
    single,
    tag_of,
    take_ticket,
    thread,
    threads,
    value_of,
)


@inlined
def keep_weights(kind, r, kept, d, first, units, hidden, width, gates):
    """The block's columns of direction d of R, [hidden, quads, 4], to shared memory."""
    quads = units >> 2 if gates == 1 else units
    e = thread()
    while e < hidden * quads * 4:
        k = quotient(e, quads * 4)
        column = e - k * quads * 4
        gate, unit = column & 3, first + (column >> 2)
        if gates == 1:
            gate, unit = 0, first + column
        v = single(0.0)
        if unit < hidden and gate < gates:
            place = d * gates * width + gate * width + unit
            v = weight(kind, r, ((place >> 4) * between(hidden) + k) * 16 + (place & 15))
        kept[e] = v
        e += threads()


@inlined
def wait_tagged(words, place, tag, size, target):
    """Read the state of one row as soon as all its words have the tag, to shared memory."""
    k = 2 * thread()
    while k < size:
        far = k + 2 * threads()
        other_k = far if far < size else k
        late = True
        while late:
            a, b = get_tagged(words, place + k)
            c, e = get_tagged(words, place + other_k)
            late = tag_of(a) != tag or tag_of(c) != tag
            late = late or (k + 1 < size and tag_of(b) != tag)
            late = late or (other_k + 1 < size and tag_of(e) != tag)
            if late:
                pause()
        target[k], target[other_k] = value_of(a), value_of(c)
        if k + 1 < size:
            target[k + 1] = value_of(b)
        if other_k + 1 < size:
            target[other_k + 1] = value_of(e)
        k = far + 2 * threads()
    barrier()


@inlined
def stage_state(h, h0, s, batch, size, d, n, h_row, h_direction, target):
    """Read the state of one row before step s, to shared memory."""
    k = thread()
    while k < size:
        target[k] = old_state(h, h0, s, batch, size, d, n, k, h_row, h_direction)
        k += threads()
    barrier()


@inlined
def wait_counter(words, place, count):
    """Wait until a counter has come to `count`."""
    if thread() == 0:
        while counted(words, place) < count:
            pause()
    barrier()


@inlined
def leave(words, parties, steps, counters):
    """The last block to leave makes the words ready for the next launch."""
    barrier()
    if thread() == 0 and take_ticket(words, LEFT) == parties - 1:
        words[LEFT] = 0
        words[EPOCH] = (words[EPOCH] + steps + 1) & 0xFFFFFFFF
        for k in range(counters):
            words[COUNTERS + 16 * k] = 0
