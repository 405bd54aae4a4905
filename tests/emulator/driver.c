/* A libcuda.so.1 of host memory, for the real cuda.core to run over.

   Kernels are those of `kernels`, where it is linked with some (see `build.py`), else they do
   nothing. All work is done at once, in the order that it is asked for. With SAYS defined it prints
   what matters: launches, copies, graphs. Everything that cuda.core asks for and that is not here
   fails with CUDA_ERROR_NOT_SUPPORTED, or does nothing where it is about graphs. */
#define _GNU_SOURCE
#include "grid.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef uintptr_t H;
#ifdef SAYS
#define SAY(...) (printf("stub: " __VA_ARGS__), putchar('\n'), fflush(stdout))
#else
#define SAY(...)
#endif
#define MAKES(name, ...) int name(H *made, ##__VA_ARGS__) { *made = next += 0x100; return 0; }
#define NOTHING(name, ...) int name(__VA_ARGS__) { return 0; }
static H next = 0x1000;
static __thread H current = 0;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
#define ALONE(code) ({                       \
    pthread_mutex_lock(&one_at_a_time);      \
    int answer = (code);                     \
    pthread_mutex_unlock(&one_at_a_time);    \
    answer;                                  \
})
enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, TOO_LARGE = 720, NOT_SUPPORTED = 801 };
enum { MULTIPROCESSORS = 132, MOST_SHARED = 232448, PLAIN_SHARED = 48 * 1024, MOST_PARAMS = 96 };

/* Memory that was given out, by address. */
static struct region *regions;
static u32 region_count, region_room;

static u32 place_of(u64 address) {
    u32 low = 0, high = region_count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (regions[middle].from <= address) low = middle + 1; else high = middle;
    }
    return low;
}
struct region *find_region(u64 address) {
    u32 k = place_of(address);
    return k && address < regions[k - 1].to ? &regions[k - 1] : 0;
}
static int add_region(void *memory, size_t n) {
    u32 k = place_of((u64)memory);
    if (region_count == region_room)
        regions = realloc(regions, (region_room = 2 * region_room + 64) * sizeof *regions);
    memmove(&regions[k + 1], &regions[k], (region_count++ - k) * sizeof *regions);
    regions[k] = (struct region){(u64)memory, (u64)memory + n, calloc(n, sizeof(u64))};
    return 0;
}
static int drop_region(H memory) {
    u32 k = place_of(memory);
    if (k == 0 || regions[k - 1].from != memory) return INVALID_VALUE;
    free(regions[k - 1].wrote);
    memmove(&regions[k - 1], &regions[k], (region_count-- - k) * sizeof *regions);
    free((void *)memory);
    return 0;
}
static int holds(H at, size_t n) {
    struct region *r = find_region(at);
    return r && at + n <= r->to;
}

/* Work, done at once or kept in the graph that its stream is captured in. */
struct work {
    enum { COPY, CLEAR, LAUNCH } what;
    H to, from;
    size_t n;
    const struct kernel *kernel;
    u32 blocks, threads, shared, together;
    u64 params[MOST_PARAMS];
};
struct graph { struct work *work; u32 count; };
static H captured = 0;
static struct graph *capture;

static int do_work(const struct work *w) {
    if (w->what == COPY) memcpy((void *)w->to, (void *)w->from, w->n);
    if (w->what == CLEAR) memset((void *)w->to, 0, w->n);
    if (w->what != LAUNCH || w->kernel == 0) return 0;
    return launch_grid(w->kernel, w->blocks, w->threads, w->shared, w->together, w->params);
}
static int take_work(H stream, const struct work *w) {
    if (captured == 0 || stream != captured) return do_work(w);
    capture->work = realloc(capture->work, (capture->count + 1) * sizeof *w);
    capture->work[capture->count++] = *w;
    return 0;
}
static int replay(const struct graph *g) {
    int error = 0;
    for (u32 k = 0; k < g->count && !error; k++) error = do_work(&g->work[k]);
    return error;
}

NOTHING(cuInit, unsigned flags)
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int ordinal) { *d = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int d) { strncpy(name, "Stub", size); return 0; }
int cuDeviceGetAttribute(int *v, int attribute, int d) {
    switch (attribute) {
    case 75: *v = 9; break;       /* compute capability 9.0 */
    case 76: *v = 0; break;
    case 16: *v = MULTIPROCESSORS; break;
    case 97: *v = MOST_SHARED; break;
    case 1: *v = 1024; break;     /* threads of a block */
    default: *v = 1;
    }
    return 0;
}
int cuDevicePrimaryCtxRetain(H *c, int d) { *c = 0xC0; return 0; }
NOTHING(cuDevicePrimaryCtxRelease_v2, int d)
int cuCtxGetCurrent(H *c) { *c = current; return 0; }
int cuCtxSetCurrent(H c) { current = c; return 0; }
int cuCtxGetDevice(int *d) { *d = 0; return 0; }
int cuCtxSynchronize(void) { SAY("synchronize all"); return 0; }
int cuCtxGetStreamPriorityRange(int *low, int *high) { *low = 0; *high = -5; return 0; }
MAKES(cuStreamCreateWithPriority, unsigned flags, int priority)
NOTHING(cuStreamDestroy_v2, H s)
NOTHING(cuStreamSynchronize, H s)
int cuStreamGetCtx(H s, H *c) { *c = 0xC0; return 0; }
int cuStreamGetDevice(H s, int *d) { *d = 0; return 0; }
int cuStreamBeginCapture_v2(H s, int mode) {
    SAY("capture");
    captured = s, capture = calloc(1, sizeof *capture);
    return 0;
}
int cuStreamEndCapture(H s, H *g) { captured = 0, *g = (H)capture; return 0; }
int cuStreamIsCapturing(H s, int *c) { *c = s == captured && captured; return 0; }
int cuStreamGetCaptureInfo_v3(H s, int *status, uint64_t *id, H *g, void *d, void *e, size_t *n) {
    *status = s == captured && captured;
    if (id) *id = 1;
    if (g) *g = (H)capture;
    if (n) *n = 0;
    return 0;
}
int cuGraphInstantiateWithFlags(H *made, H g, uint64_t flags) { *made = g; return 0; }
int cuGraphInstantiateWithParams(H *made, H g, void *params) {
    *made = g;
    ((int *)params)[6] = 0; /* CUDA_GRAPH_INSTANTIATE_SUCCESS */
    return 0;
}
int cuGraphLaunch(H e, H s) {
    SAY("graph on %lx", s);
    return ALONE(replay((struct graph *)e));
}
MAKES(cuEventCreate, unsigned flags)
NOTHING(cuEventRecord, H e, H s)
int cuStreamWaitEvent(H s, H e, unsigned flags) { SAY("%lx waits", s); return 0; }
NOTHING(cuEventDestroy_v2, H e)
NOTHING(cuEventSynchronize, H e)
int cuEventElapsedTime_v2(float *ms, H first, H last) { *ms = 1; return 0; }
int cuDeviceGetDefaultMemPool(H *p, int d) { *p = 0x500; return 0; }
int cuDeviceGetMemPool(H *p, int d) { *p = 0x500; return 0; }
int cuMemPoolGetAttribute(H p, int a, void *v) { *(uint64_t *)v = 0; return 0; }
NOTHING(cuMemPoolSetAttribute, H p, int a, void *v)
static int allocate(H *p, size_t n) {
    if (n > (size_t)1 << 30) return OUT_OF_MEMORY;
    *p = (H)aligned_alloc(256, (n + 255) / 256 * 256);
    memset((void *)*p, 0xFF, n);
    return add_region((void *)*p, n);
}
int cuMemAllocFromPoolAsync(H *p, size_t n, H pool, H s) { return ALONE(allocate(p, n)); }
int cuMemAllocAsync(H *p, size_t n, H s) { return ALONE(allocate(p, n)); }
int cuMemFreeAsync(H p, H s) { return ALONE(drop_region(p)); }
int cuMemHostAlloc(H *p, size_t n, unsigned f) { return ALONE(allocate(p, n)); }
int cuMemFreeHost(H p) { return ALONE(drop_region(p)); }
int cuMemGetInfo_v2(size_t *left, size_t *all) { *left = 1000; *all = 2000; return 0; }
/* What other libraries gave out is not known: a source may be anywhere. */
static int copy(H to, H from, size_t n, H s, int into, int out) {
    struct work w = {COPY, to, from, n};
    return ALONE((into && !holds(to, n)) || (out && !holds(from, n)) ? INVALID_VALUE
                                                                    : take_work(s, &w));
}
int cuMemcpyHtoDAsync_v2(H to, H from, size_t n, H s) {
    SAY("up %zu", n);
    return copy(to, from, n, s, 1, 0);
}
int cuMemcpyDtoHAsync_v2(H to, H from, size_t n, H s) {
    SAY("down %zu", n);
    return copy(to, from, n, s, 0, 1);
}
int cuMemcpyDtoDAsync_v2(H to, H from, size_t n, H s) {
    SAY("copy %zu", n);
    return copy(to, from, n, s, 1, 0);
}
int cuMemsetD8Async(H to, unsigned char c, size_t n, H s) {
    struct work w = {CLEAR, to, 0, n};
    return ALONE(holds(to, n) && c == 0 ? take_work(s, &w) : INVALID_VALUE);
}
int cuPointerGetAttributes(unsigned n, int *which, void **data, H p) {
    for (unsigned k = 0; k < n; k++) *(int *)data[k] = 2; /* device memory */
    return 0;
}
MAKES(cuLibraryLoadData, void *c, void *a, void *b, unsigned n, void *e, void *f, unsigned m)
NOTHING(cuLibraryUnload, H l)
extern const struct kernel *const kernels[] __attribute__((weak));
int cuLibraryGetKernel(H *k, H l, const char *name) {
    SAY("kernel %s", name);
    *k = next += 0x100;
    for (const struct kernel *const *one = kernels; one && *one; one++)
        if (strcmp((*one)->name, name) == 0) *k = (H)*one;
    return 0;
}
int cuKernelSetAttribute(int a, int v, H k, int d) { SAY("attribute %d is %d", a, v); return 0; }
int cuKernelGetFunction(H *f, H k) { *f = k; return 0; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, H f, int b, size_t s) { *n = 1; return 0; }
struct config { unsigned grid[3], block[3], shared; H stream; void *attributes; unsigned count; };
int cuLaunchKernelEx(struct config *c, H k, void **params, void **extra) {
    struct work w = {LAUNCH, .blocks = c->grid[0], .threads = c->block[0], .shared = c->shared};
    w.together = c->count; /* the one attribute that is asked for */
    SAY("launch %u blocks of %u%s", c->grid[0], c->block[0], c->count ? ", together" : "");
    if (params[0] == 0 || w.threads > 256 || w.shared > MOST_SHARED) return INVALID_VALUE;
    if (w.together && w.blocks > MULTIPROCESSORS) return TOO_LARGE;
    if (kernels) {
        w.kernel = (const struct kernel *)k;
        for (u32 n = 0; n < w.kernel->params; n++) w.params[n] = *(u64 *)params[n];
    }
    return ALONE(take_work(c->stream, &w));
}
int cuGetErrorName(int e, const char **s) {
    *s = e == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_THE_STUB";
    return 0;
}
int cuGetErrorString(int e, const char **s) { *s = "by the stub"; return 0; }

static int refuse(void) { return NOT_SUPPORTED; }
static int accept(void) { return 0; }

int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
    static const char *forms[] = {"_v3", "_v2", ""};
    char full[160];
    Dl_info self;
    dladdr((void *)accept, &self);
    void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *found = 0;
    for (int k = 0; k < 3 && !*found; k++) {
        snprintf(full, sizeof full, "%s%s", name, forms[k]);
        *found = dlsym(library, full);
    }
    if (!*found) *found = strstr(name, "cuGraph") || strstr(name, "UserObject") ? accept : refuse;
    if (status) *status = 0;
    return 0;
}
int cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, found, version, flags, 0);
}
