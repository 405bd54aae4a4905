/* Runs the threads of a grid, in an order drawn anew, until all are done or one fails. */
#include "grid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ILLEGAL_ADDRESS = 700, STUCK = 702 };
enum { MOST_IDLE_ROUNDS = 100000 };
u32 grid_blocks;
u64 grid_launch;
static jmp_buf failed;
static u64 drawn = 0x9E3779B97F4A7C15;

static u32 draw(u32 below) {
    drawn ^= drawn << 13, drawn ^= drawn >> 7, drawn ^= drawn << 17;
    return (u32)((drawn >> 33) % below);
}

_Noreturn void fail(const struct thread *t, int line, const char *format, ...) {
    va_list more;
    va_start(more, format);
    fprintf(stderr, "emulator: %s, line %d of its PTX, block %u, thread %u: ", t->kernel, line,
            t->block->number, t->number);
    vfprintf(stderr, format, more);
    fputc('\n', stderr);
    va_end(more);
    longjmp(failed, ILLEGAL_ADDRESS);
}

void begin_copy(struct thread *t, u64 to, u64 from) {
    if (t->copies == t->room) {
        t->room = 2 * t->room + 16;
        t->begun = realloc(t->begun, t->room * sizeof *t->begun);
    }
    t->begun[t->copies++] = (struct copy){from, (u32)to};
}

/* Exchange what the threads of a warp gave, once all of them that are left have come. */
static int exchange(struct thread *threads, u32 first, u32 last) {
    for (u32 k = first; k < last; k++)
        if (threads[k].state != AT_SHUFFLE && threads[k].state != DONE) return 0;
    for (u32 k = first; k < last; k++) {
        struct thread *t = &threads[k], *other = &threads[first + ((k - first) ^ t->bit)];
        if (t->state == DONE) continue;
        if (other >= threads + last || other->state == DONE || other->at != t->at)
            fail(t, t->at, "a shuffle with a thread that is not there");
        t->got = other->given;
    }
    int moved = 0;
    for (u32 k = first; k < last; k++)
        if (threads[k].state == AT_SHUFFLE) threads[k].state = RUNS, moved = 1;
    return moved;
}

/* Let the threads of a block run until each waits, but for some that are late; whether any did. */
static int run_block(const struct kernel *k, struct thread *threads, const u64 *params) {
    struct block *b = threads->block;
    int moved = 0;
    u32 start = draw(b->threads), waiting = 0, done = 0, step = draw(2) ? 1 : b->threads - 1;
    u32 late = draw(2) ? draw(b->threads) : 0, left_out = draw(b->threads);
    for (u32 n = 0, i = start; n < b->threads; n++, i = (i + step) % b->threads) {
        struct thread *t = &threads[i];
        if ((i + left_out) % b->threads < late) {
            moved |= t->state == RUNS;
            continue;
        }
        if (t->state == RUNS || t->state == SPINS) {
            t->state = k->run(t, params);
            moved |= t->state != SPINS;
        }
    }
    for (u32 n = 0; n < b->threads; n += 32)
        moved |= exchange(threads, n, n + 32 < b->threads ? n + 32 : b->threads);
    for (u32 n = 0; n < b->threads; n++)
        waiting += threads[n].state == AT_BARRIER, done += threads[n].state == DONE;
    if (waiting && waiting + done == b->threads) {
        if (done) fail(threads, 0, "%u threads wait for %u that are done", waiting, done);
        for (u32 n = 0; n < b->threads; n++) threads[n].state = RUNS;
        b->stretch++, moved = 1;
    }
    return done == b->threads ? -1 : moved;
}

static struct thread *open_block(const struct kernel *k, u32 number, u32 threads, u32 shared) {
    struct block *b = calloc(1, sizeof *b);
    struct thread *made = calloc(threads, sizeof *made);
    *b = (struct block){number, threads, 1, shared, malloc(shared + 16)};
    b->marks = calloc(shared / 4 + 1, sizeof *b->marks);
    memset(b->shared, 0xFF, shared + 16);
    for (u32 n = 0; n < threads; n++) {
        made[n].block = b, made[n].kernel = k->name, made[n].number = n;
        made[n].registers = malloc(k->register_bytes), made[n].local = malloc(k->local_bytes + 16);
        memset(made[n].registers, 0xA5, k->register_bytes);
    }
    return made;
}

static void close_block(struct thread *threads) {
    struct block *b = threads->block;
    for (u32 n = 0; n < b->threads; n++)
        free(threads[n].registers), free(threads[n].local), free(threads[n].begun);
    free(b->shared), free(b->marks), free(b), free(threads);
}

int launch_grid(const struct kernel *k, u32 blocks, u32 threads, u32 shared, int together,
                const u64 *params) {
    u32 open = together ? blocks : 1, first = draw(blocks);
    struct thread **running = calloc(open, sizeof *running);
    grid_blocks = blocks, grid_launch++;
    int error = setjmp(failed);
    for (u32 n = 0; !error && n < blocks; n += open) {
        for (u32 i = 0; i < open; i++)
            running[i] = open_block(k, (first + n + i) % blocks, threads, shared);
        for (u32 left = open, idle = 0; left;) {
            int moved = 0;
            for (u32 i = 0; i < open; i++) {
                int now = running[i] ? run_block(k, running[i], params) : 0;
                if (now < 0) close_block(running[i]), running[i] = 0, left--;
                moved |= now != 0;
            }
            idle = moved ? 0 : idle + 1;
            if (idle > MOST_IDLE_ROUNDS) {
                fprintf(stderr, "emulator: %s is stuck\n", k->name);
                longjmp(failed, STUCK);
            }
        }
    }
    for (u32 i = 0; i < open; i++)
        if (running[i]) close_block(running[i]);
    free(running);
    return error;
}
