/* One thread of a grid, as compiled from PTX by `translate.py`, and the memory that it sees. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;
typedef double f64;

enum state { RUNS, AT_BARRIER, AT_SHUFFLE, SPINS, DONE };

/* Who last touched a word of shared memory, in which stretch between barriers. */
struct mark { u32 wrote, wrote_in, read, read_in; };

struct block {
    u32 number, threads, stretch, shared_bytes;
    u8 *shared;
    struct mark *marks;
};

/* Memory that the driver gave out. wrote: for each byte who wrote it last, see `writer`. */
struct region { u64 from, to; u64 *wrote; };

/* A copy to shared memory that was begun. */
struct copy { u64 from; u32 to; };

struct thread {
    struct block *block;
    struct copy *begun;
    struct region *seen;
    const char *kernel;
    void *registers;
    u8 *local;
    u32 number, carry, given, got, copies, room;
    int at;
    enum state state;
    u8 bit;
};

struct kernel {
    const char *name;
    enum state (*run)(struct thread *t, const u64 *params);
    u32 register_bytes, local_bytes, params;
};

extern u32 grid_blocks;
extern u64 grid_launch;
struct region *find_region(u64 address);
int launch_grid(const struct kernel *k, u32 blocks, u32 threads, u32 shared, int together,
                const u64 *params);
void begin_copy(struct thread *t, u64 to, u64 from);
_Noreturn void fail(const struct thread *t, int line, const char *format, ...);

static inline u64 bits_f32(f32 x) { u32 u; memcpy(&u, &x, 4); return u; }
static inline u64 bits_f64(f64 x) { u64 u; memcpy(&u, &x, 8); return u; }
static inline f32 to_f32(u64 u) { f32 x; u32 low = (u32)u; memcpy(&x, &low, 4); return x; }
static inline f64 to_f64(u64 u) { f64 x; memcpy(&x, &u, 8); return x; }

static inline f32 from_f16(u64 u) {
    u32 sign = (u & 0x8000) << 16, e = (u >> 10) & 31, m = u & 1023;
    if (e == 31) return to_f32(sign | 0x7F800000 | m << 13);
    if (e == 0) return to_f32(sign | bits_f32(ldexpf((f32)m, -24)));
    return to_f32(sign | (e + 112) << 23 | m << 13);
}
static inline f32 flushed(f32 x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
static inline f32 down(f64 x) { f32 y = (f32)x; return y > x ? nextafterf(y, -INFINITY) : y; }
static inline f32 toward_zero(f64 x) {
    f32 y = (f32)x;
    return fabs((f64)y) > fabs(x) ? nextafterf(y, 0) : y;
}
static inline f32 saturated(f32 x) { return x > 1 ? 1 : x > 0 ? x : 0; }
static inline s64 whole_s64(f64 x) {
    if (x != x) return INT64_MIN;
    return x >= 0x1p63 ? INT64_MAX : x <= -0x1p63 ? INT64_MIN : (s64)x;
}
static inline s32 whole_s32(f64 x) {
    return x != x ? 0 : x >= 0x1p31 ? INT32_MAX : x <= -0x1p31 ? INT32_MIN : (s32)x;
}
static inline u64 inserted(u64 a, u64 b, u32 at, u32 count) {
    u64 mask = (count > 63 ? ~0ull : (1ull << count) - 1) << at;
    return (b & ~mask) | (a << at & mask);
}

/* Global memory. A write is signed with its launch, block, thread and stretch, so that a read can
   say whether it may not have seen it: the nearest cache may be older than another block's write,
   and a thread of this block writes at any time between barriers. */
static inline u64 writer(const struct thread *t) {
    return grid_launch << 40 | (u64)(t->block->number & 0x3FFFF) << 22
        | (u64)(t->number & 0xFF) << 14 | (t->block->stretch & 0x3FFF);
}
static inline struct region *region_of(struct thread *t, u64 at, u32 n, int line) {
    struct region *r = t->seen;
    if (r == 0 || at < r->from || at + n > r->to) {
        r = t->seen = find_region(at);
        if (r == 0 || at + n > r->to) fail(t, line, "%u bytes at %llx are not its memory", n, at);
    }
    if (at % n) fail(t, line, "%llx is not a multiple of %u", at, n);
    return r;
}
static inline void check_read(struct thread *t, u64 at, u32 n, int fresh, int line) {
    struct region *r = region_of(t, at, n, line);
    if (fresh || r->wrote == 0) return;
    u64 me = writer(t);
    for (u32 k = 0; k < n; k++) {
        u64 other = r->wrote[at + k - r->from] ^ me;
        if (other >> 40 || r->wrote[at + k - r->from] == 0) continue;
        if (other >> 22 & 0x3FFFF)
            fail(t, line, "reads %llx of another block through the nearest cache", at);
        if (other && !(other & 0x3FFF)) fail(t, line, "reads %llx before its writer's barrier", at);
    }
}
static inline void check_write(struct thread *t, u64 at, u32 n, int line) {
    struct region *r = region_of(t, at, n, line);
    for (u32 k = 0; r->wrote && k < n; k++) r->wrote[at + k - r->from] = writer(t);
}
static inline void check_shared(struct thread *t, u64 at, u32 n, int writes, int line) {
    struct block *b = t->block;
    if (at + n > b->shared_bytes)
        fail(t, line, "%u bytes at %llu of %u shared", n, at, b->shared_bytes);
    if (at % n) fail(t, line, "shared %llu is not a multiple of %u", at, n);
    for (u64 k = at / 4; k < (at + n + 3) / 4; k++) {
        struct mark *m = &b->marks[k];
        if (m->wrote_in == b->stretch && m->wrote != t->number)
            fail(t, line, "touches shared %llu that thread %u wrote", at, m->wrote);
        if (writes) {
            if (m->read_in == b->stretch && m->read != t->number)
                fail(t, line, "writes shared %llu that another thread read", at);
            m->wrote = t->number, m->wrote_in = b->stretch;
        } else if (m->read_in != b->stretch) m->read = t->number, m->read_in = b->stretch;
        else if (m->read != t->number) m->read = ~0u;
    }
}

#define ACCESS(kind)                                                                              \
    static inline kind load_global_##kind(struct thread *t, u64 at, int fresh, u32 n, int line) { \
        kind x;                                                                                   \
        if (n) check_read(t, at, n, fresh, line);                                                 \
        memcpy(&x, (void *)at, sizeof x);                                                         \
        return x;                                                                                 \
    }                                                                                             \
    static inline void store_global_##kind(struct thread *t, u64 at, u64 x, u32 n, int line) {    \
        if (n) check_write(t, at, n, line);                                                       \
        memcpy((void *)at, &x, sizeof(kind));                                                     \
    }                                                                                             \
    static inline kind load_shared_##kind(struct thread *t, u64 at, int fresh, u32 n, int line) { \
        kind x;                                                                                   \
        if (n) check_shared(t, at, n, 0, line);                                                   \
        memcpy(&x, t->block->shared + at, sizeof x);                                              \
        return x;                                                                                 \
    }                                                                                             \
    static inline void store_shared_##kind(struct thread *t, u64 at, u64 x, u32 n, int line) {    \
        if (n) check_shared(t, at, n, 1, line);                                                   \
        memcpy(t->block->shared + at, &x, sizeof(kind));                                          \
    }                                                                                             \
    static inline kind load_local_##kind(struct thread *t, u64 at, int fresh, u32 n, int line) {  \
        kind x;                                                                                   \
        memcpy(&x, (void *)at, sizeof x);                                                         \
        return x;                                                                                 \
    }                                                                                             \
    static inline void store_local_##kind(struct thread *t, u64 at, u64 x, u32 n, int line) {     \
        memcpy((void *)at, &x, sizeof(kind));                                                     \
    }
ACCESS(u8) ACCESS(u16) ACCESS(u32) ACCESS(u64) ACCESS(s8) ACCESS(s16) ACCESS(s32) ACCESS(s64)

static inline void fetch(struct thread *t, u64 to, u64 from, int line) {
    check_read(t, from, 4, 0, line);
    check_shared(t, to, 4, 1, line);
    begin_copy(t, to, from);
}
static inline void fetched(struct thread *t) {
    for (u32 k = 0; k < t->copies; k++)
        memcpy(t->block->shared + t->begun[k].to, (void *)t->begun[k].from, 4);
    t->copies = 0;
}
