/* A libcuda.so.1 of host memory, for the real cuda.core to run over: kernels do nothing.

   It prints what matters: launches, copies, graphs. Everything that cuda.core asks for and that is
   not here fails with CUDA_ERROR_NOT_SUPPORTED, or does nothing where it is about graphs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uintptr_t H;
#define SAY(...) (printf("stub: " __VA_ARGS__), putchar('\n'), fflush(stdout))
#define MAKES(name, ...) int name(H *made, ##__VA_ARGS__) { *made = next += 0x100; return 0; }
#define NOTHING(name, ...) int name(__VA_ARGS__) { return 0; }
static H next = 0x1000, current = 0;
static int capturing = 0;
enum { OUT_OF_MEMORY = 2, NOT_SUPPORTED = 801 };

NOTHING(cuInit, unsigned flags)
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int ordinal) { *d = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int d) { strncpy(name, "Stub", size); return 0; }
int cuDeviceGetAttribute(int *v, int attribute, int d) {
    switch (attribute) {
    case 75: *v = 9; break;       /* compute capability 9.0 */
    case 76: *v = 0; break;
    case 16: *v = 132; break;     /* multiprocessors */
    case 97: *v = 232448; break;  /* shared memory of a block */
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
int cuStreamBeginCapture_v2(H s, int mode) { SAY("capture"); capturing = 1; return 0; }
int cuStreamEndCapture(H s, H *g) { capturing = 0; *g = next += 0x100; return 0; }
int cuStreamIsCapturing(H s, int *c) { *c = capturing; return 0; }
int cuStreamGetCaptureInfo_v3(H s, int *status, uint64_t *id, H *g, void *d, void *e, size_t *n) {
    *status = capturing;
    if (id) *id = 1;
    if (g) *g = 0x77;
    if (n) *n = 0;
    return 0;
}
MAKES(cuGraphInstantiateWithFlags, H g, uint64_t flags)
int cuGraphInstantiateWithParams(H *made, H g, void *params) {
    *made = next += 0x100;
    ((int *)params)[6] = 0; /* CUDA_GRAPH_INSTANTIATE_SUCCESS */
    return 0;
}
int cuGraphLaunch(H e, H s) { SAY("graph on %lx", s); return 0; }
MAKES(cuEventCreate, unsigned flags)
NOTHING(cuEventRecord, H e, H s)
int cuStreamWaitEvent(H s, H e, unsigned flags) { SAY("%lx waits", s); return 0; }
NOTHING(cuEventDestroy_v2, H e)
int cuDeviceGetDefaultMemPool(H *p, int d) { *p = 0x500; return 0; }
int cuDeviceGetMemPool(H *p, int d) { *p = 0x500; return 0; }
int cuMemPoolGetAttribute(H p, int a, void *v) { *(uint64_t *)v = 0; return 0; }
NOTHING(cuMemPoolSetAttribute, H p, int a, void *v)
int cuMemAllocFromPoolAsync(H *p, size_t n, H pool, H s) {
    if (n > (size_t)1 << 30) return OUT_OF_MEMORY;
    *p = (H)aligned_alloc(256, (n + 255) / 256 * 256);
    memset((void *)*p, 0xFF, n);
    return 0;
}
int cuMemAllocAsync(H *p, size_t n, H s) { return cuMemAllocFromPoolAsync(p, n, 0, s); }
int cuMemFreeAsync(H p, H s) { free((void *)p); return 0; }
int cuMemHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return *p ? 0 : 2; }
int cuMemFreeHost(void *p) { free(p); return 0; }
int cuMemGetInfo_v2(size_t *left, size_t *all) { *left = 1000; *all = 2000; return 0; }
static int copy(H to, H from, size_t n) { memcpy((void *)to, (void *)from, n); return 0; }
int cuMemcpyHtoDAsync_v2(H to, H from, size_t n, H s) { SAY("up %zu", n); return copy(to, from, n); }
int cuMemcpyDtoHAsync_v2(H to, H from, size_t n, H s) { SAY("down %zu", n); return copy(to, from, n); }
int cuMemcpyDtoDAsync_v2(H to, H from, size_t n, H s) { SAY("copy %zu", n); return copy(to, from, n); }
int cuMemsetD8Async(H to, unsigned char c, size_t n, H s) { memset((void *)to, c, n); return 0; }
int cuPointerGetAttributes(unsigned n, int *which, void **data, H p) {
    for (unsigned k = 0; k < n; k++) *(int *)data[k] = 2; /* device memory */
    return 0;
}
MAKES(cuLibraryLoadData, void *c, void *a, void *b, unsigned n, void *e, void *f, unsigned m)
NOTHING(cuLibraryUnload, H l)
int cuLibraryGetKernel(H *k, H l, const char *name) { SAY("kernel %s", name); *k = next += 0x100; return 0; }
int cuKernelSetAttribute(int a, int v, H k, int d) { SAY("attribute %d is %d", a, v); return 0; }
int cuKernelGetFunction(H *f, H k) { *f = k; return 0; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, H f, int b, size_t s) { *n = 1; return 0; }
struct config { unsigned grid[3], block[3], shared; H stream; void *attributes; unsigned count; };
int cuLaunchKernelEx(struct config *c, H k, void **params, void **extra) {
    SAY("launch %u blocks of %u%s", c->grid[0], c->block[0], c->count ? ", together" : "");
    return params[0] ? 0 : 1;
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
