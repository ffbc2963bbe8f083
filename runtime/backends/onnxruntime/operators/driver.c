/* The driver is opened by name, so that this library needs nothing of NVIDIA's when it is loaded or
   built. https://docs.nvidia.com/cuda/cuda-driver-api/ */
#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* From glibc 2.34 on these have a newer version too, which an older glibc lacks. */
__asm__(".symver dlopen, dlopen@GLIBC_2.2.5");
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");

/* The modules' PTX, each with the zero that ends it. */
__asm__(".pushsection .rodata\n"
        "ptx: .incbin \"operators.ptx\"\n"
        ".byte 0\n"
        "ptx_bf16: .incbin \"operators_bf16.ptx\"\n"
        ".byte 0\n"
        ".popsection\n");
extern const char ptx[] __attribute__((visibility("hidden")));
extern const char ptx_bf16[] __attribute__((visibility("hidden")));

enum { CONTEXTS = 64 };

static struct {
    int (*cuGetErrorName)(int, const char **);
    int (*cuCtxGetCurrent)(void **);
    int (*cuCtxSetCurrent)(void *);
    int (*cuModuleLoadData)(void **, const void *);
    int (*cuModuleGetFunction)(void **, void *, const char *);
    int (*cuLaunchKernel)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                          void *, void **, void **);
} driver;
static const char *missing = "libcuda.so.1"; /* What was not found; NULL: all is there. */

/* A module that is loaded stays as long as its context. */
static struct { void *context, *modules[MODULES]; } loaded[CONTEXTS];
static int loaded_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* With the lock. */
static void open_driver(void) {
    void *library = missing ? dlopen("libcuda.so.1", RTLD_NOW) : NULL;
    if (!library) return;
#define FIND(NAME)                                      \
    *(void **)&driver.NAME = dlsym(library, missing = #NAME); \
    if (!driver.NAME) return;
    FIND(cuGetErrorName)
    FIND(cuCtxGetCurrent)
    FIND(cuCtxSetCurrent)
    FIND(cuModuleLoadData)
    FIND(cuModuleGetFunction)
    FIND(cuLaunchKernel)
    missing = NULL;
}

static int told(int error, const char *call, char *reason, size_t size) {
    if (!error) return 0;
    const char *name = NULL;
    driver.cuGetErrorName(error, &name);
    snprintf(reason, size, "%s answers %s (%d)", call, name ? name : "an unknown error", error);
    return -1;
}

int driver_has_context(void) {
    void *context = NULL;
    pthread_mutex_lock(&lock);
    open_driver();
    pthread_mutex_unlock(&lock);
    return !missing && !driver.cuCtxGetCurrent(&context) && context;
}

/* With the lock. */
static int load(void *context, int module, void **found, char *reason, size_t size) {
    static const char *const images[] = {[MODULE_F32_F16] = ptx, [MODULE_BF16] = ptx_bf16};
    static const char *const calls[] = {[MODULE_F32_F16] = "cuModuleLoadData of the kernels of f32 and f16",
                                        [MODULE_BF16] = "cuModuleLoadData of the kernels of bf16"};
    int i = 0;
    while (i < loaded_count && loaded[i].context != context) i++;
    if (i == CONTEXTS) {
        snprintf(reason, size, "its kernels are loaded in %d contexts of CUDA, and in no more", CONTEXTS);
        return -1;
    }
    void **kept = &loaded[i].modules[module];
    if (!*kept && told(driver.cuModuleLoadData(kept, images[module]), calls[module], reason, size)) return -1;
    loaded[i].context = context;
    if (i == loaded_count) loaded_count++;
    *found = *kept;
    return 0;
}

int driver_find(int module, const char *name, Functions *found, char *reason, size_t size) {
    if (!driver_has_context()) {
        if (missing) snprintf(reason, size, "CUDA's driver has no %s", missing);
        else snprintf(reason, size, "no context of CUDA is current on this thread");
        return -1;
    }
    Functions functions = {0};
    void *image;
    int failed = told(driver.cuCtxGetCurrent(&functions.context), "cuCtxGetCurrent", reason, size);
    if (failed) return failed;
    pthread_mutex_lock(&lock);
    failed = load(functions.context, module, &image, reason, size);
    pthread_mutex_unlock(&lock);
    void **const places[] = {&functions.packs, &functions.elements};
    static const char *const ends[] = {"packs", "elements"};
    for (int i = 0; i < 2 && !failed; i++) {
        char full[128];
        snprintf(full, sizeof full, "%s_%s", name, ends[i]);
        failed = told(driver.cuModuleGetFunction(places[i], image, full), "cuModuleGetFunction", reason, size);
    }
    if (!failed) *found = functions;
    return failed;
}

int driver_launch(const Functions *functions, void *function, const unsigned grid[3], unsigned threads,
                  void *arguments, void *stream, char *reason, size_t size) {
    /* A thread that has called nothing of CUDA yet has no context. */
    if (!driver_has_context() &&
        told(driver.cuCtxSetCurrent(functions->context), "cuCtxSetCurrent", reason, size))
        return -1;
    int error = driver.cuLaunchKernel(function, grid[0], grid[1], grid[2], threads, 1, 1, 0, stream,
                                      &arguments, NULL);
    return told(error, "cuLaunchKernel", reason, size);
}
