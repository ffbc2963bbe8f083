/* libcudart.so.13 of the rehearsal. A process may have several copies of it, as it has of the real
   one: each keeps, for each thread, the last error until that is read. */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char name[256];
    char uuid[16];
    char luid[8];
    unsigned luid_mask;
    size_t memory, shared_block;
    int registers_block, warp;
    size_t pitch;
    int threads_block, threads_dimension[3], grid[3];
    size_t constants;
    int major, minor;
    size_t texture[2];
    int processors, integrated, maps_host;
    int textures[39];
    size_t surface_alignment;
    int concurrent, ecc, pci[3], tcc, engines, unified, bus, l2, l2_persisting;
    int threads_processor, priorities, l1[2];
    size_t shared_processor;
    int registers_processor, managed, board[2], atomics, pageable, managed_concurrent, preemption;
    int registered, cooperative;
    size_t shared_optin;
    int rest[82];
} Properties;

typedef struct { unsigned x, y, z; } Dim3;
typedef struct { const void *host; const char *name; } Kernel;
typedef struct { Dim3 grid, block; size_t shared; Stream *stream; } Configuration;

static _Thread_local int last_error;
static _Thread_local Configuration pushed;
static Kernel *kernels;
static size_t kernel_count;

static int told(int error, const char *call) {
    if (error) {
        last_error = error;
        device_log("error %s %d", call, error);
    }
    return error;
}
#define TOLD(error) told(error, __func__)

/* ---- Errors ---- */

int cudaGetLastError(void) {
    int error = last_error;
    last_error = SUCCESS;
    if (error) device_log("last_error_read %d", error);
    return error;
}

int cudaPeekAtLastError(void) { return last_error; }

const char *cudaGetErrorName(int error) {
    switch (error) {
        case SUCCESS: return "cudaSuccess";
        case STREAM_CAPTURE_UNSUPPORTED: return "cudaErrorStreamCaptureUnsupported";
        case STREAM_CAPTURE_INVALIDATED: return "cudaErrorStreamCaptureInvalidated";
        case STREAM_CAPTURE_ISOLATION: return "cudaErrorStreamCaptureIsolation";
        case CAPTURED_EVENT: return "cudaErrorCapturedEvent";
        case INVALID_VALUE: return "cudaErrorInvalidValue";
        default: return "cudaErrorOfTheRehearsal";
    }
}

const char *cudaGetErrorString(int error) { return cudaGetErrorName(error); }

/* ---- The device ---- */

int cudaGetDeviceProperties(Properties *out, int device) {
    memset(out, 0, sizeof *out);
    strcpy(out->name, "NVIDIA H200 of the rehearsal");
    out->memory = (size_t)140 << 30;
    out->shared_block = 48 << 10;
    out->registers_block = out->registers_processor = 65536;
    out->warp = 32;
    out->pitch = 0x7fffffff;
    out->threads_block = out->threads_dimension[0] = out->threads_dimension[1] = 1024;
    out->threads_dimension[2] = 64;
    out->grid[0] = 0x7fffffff;
    out->grid[1] = out->grid[2] = 65535;
    out->constants = 65536;
    out->major = 9;
    out->texture[0] = 512;
    out->processors = 132;
    out->maps_host = out->concurrent = out->unified = out->cooperative = 1;
    out->l2 = 50 << 20;
    out->threads_processor = 2048;
    out->shared_processor = 228 << 10;
    out->shared_optin = 227 << 10;
    return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    static const int known[][2] = {{1, 1024}, {8, 48 << 10}, {10, 32}, {12, 65536}, {16, 132},
        {38, 50 << 20}, {39, 2048}, {75, 9}, {76, 0}, {81, 228 << 10}, {82, 65536}, {95, 1},
        {97, 227 << 10}, {106, 32}};
    *value = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i][0] == attribute) *value = known[i][1];
    return SUCCESS;
}

int cudaGetDevice(int *device) { *device = 0; return SUCCESS; }
int cudaGetDeviceCount(int *count) { *count = 1; return SUCCESS; }
int cudaSetDevice(int device) { return SUCCESS; }
int cudaDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cudaDeviceSynchronize(void) { return TOLD(device_wait(NULL, __func__)); }
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return SUCCESS; }

int cudaMemGetInfo(size_t *free, size_t *total) {
    *total = (size_t)140 << 30;
    *free = *total - device_in_use();
    return SUCCESS;
}

/* ---- Memory ---- */

int cudaMalloc(void **at, size_t size) { return TOLD(device_allocate(at, size, MEMORY_DEVICE, __func__)); }
int cudaMallocHost(void **at, size_t size) { return TOLD(device_allocate(at, size, MEMORY_PINNED, __func__)); }
int cudaHostAlloc(void **at, size_t size, unsigned flags) { return TOLD(device_allocate(at, size, MEMORY_PINNED, __func__)); }
int cudaFree(void *at) { return TOLD(device_free(at, __func__)); }
int cudaFreeHost(void *at) { return TOLD(device_free(at, __func__)); }

int cudaPointerGetAttributes(int *out, const void *address) {
    memset(out, 0, 24);
    out[0] = device_memory_of(address);
    return SUCCESS;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, Stream *stream) {
    return TOLD(device_copy(stream, to, from, size));
}

int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    int refused = device_unsafe(__func__);
    return TOLD(refused ? refused : device_copy(NULL, to, from, size));
}

int cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width,
                      size_t height, int kind, Stream *stream) {
    int error = SUCCESS;
    for (size_t row = 0; row < height && !error; row++)
        error = device_copy(stream, to + row * to_pitch, from + row * from_pitch, width);
    return TOLD(error);
}

int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t size, size_t offset, int kind) {
    memset(to, 0, size);
    return TOLD(device_unsafe(__func__));
}

int cudaMemset(void *to, int value, size_t size) {
    int refused = device_unsafe(__func__);
    return TOLD(refused ? refused : device_fill(NULL, to, value, size));
}

int cudaMemsetAsync(void *to, int value, size_t size, Stream *stream) {
    return TOLD(device_fill(stream, to, value, size));
}

/* ---- Streams, captures, graphs ---- */

int cudaStreamCreate(Stream **stream) { *stream = device_stream(); return SUCCESS; }
int cudaStreamCreateWithFlags(Stream **stream, unsigned flags) { return cudaStreamCreate(stream); }
int cudaStreamCreateWithPriority(Stream **stream, unsigned flags, int priority) { return cudaStreamCreate(stream); }
int cudaStreamDestroy(Stream *stream) { device_stream_end(stream); return SUCCESS; }
int cudaStreamSynchronize(Stream *stream) { return TOLD(device_wait(stream, __func__)); }
int cudaStreamBeginCapture(Stream *stream, int mode) { return TOLD(device_capture_begin(stream, mode)); }
int cudaStreamEndCapture(Stream *stream, Graph **graph) { return TOLD(device_capture_end(stream, graph)); }
int cudaThreadExchangeStreamCaptureMode(int *mode) { device_exchange_mode(mode); return SUCCESS; }

int cudaStreamIsCapturing(Stream *stream, int *status) {
    *status = device_capture_status(stream);
    return SUCCESS;
}

int cudaGraphInstantiate(Graph **made, Graph *graph, unsigned long long flags) {
    *made = graph;
    return TOLD(graph ? SUCCESS : INVALID_VALUE);
}

int cudaGraphDestroy(Graph *graph) { return SUCCESS; } /* The instance is the graph itself. */
int cudaGraphLaunch(Graph *graph, Stream *stream) { return TOLD(device_graph_launch(graph, stream)); }

int cudaGraphExecDestroy(Graph *graph) {
    int refused = device_unsafe(__func__);
    if (!refused) device_graph_end(graph);
    return TOLD(refused);
}

/* ---- Events ---- */

int cudaEventCreateWithFlags(Event **event, unsigned flags) { *event = device_event(); return SUCCESS; }
int cudaEventCreate(Event **event) { return cudaEventCreateWithFlags(event, 0); }
int cudaEventDestroy(Event *event) { device_event_end(event); return SUCCESS; }
int cudaEventRecord(Event *event, Stream *stream) { return TOLD(device_event_record(event, stream)); }
int cudaEventRecordWithFlags(Event *event, Stream *stream, unsigned flags) { return cudaEventRecord(event, stream); }
int cudaEventSynchronize(Event *event) { return TOLD(device_event_ask(event, __func__)); }
int cudaEventQuery(Event *event) { return TOLD(device_event_ask(event, __func__)); }
int cudaStreamWaitEvent(Stream *stream, Event *event, unsigned flags) { return TOLD(device_event_wait(stream, event)); }

int cudaEventElapsedTime(float *milliseconds, Event *from, Event *to) {
    *milliseconds = 1;
    return TOLD(device_event_ask(to, __func__));
}

/* ---- Kernels ---- */

int cudaLaunchHostFunc(Stream *stream, void (*function)(void *), void *argument) {
    return TOLD(device_host_function(stream, function, argument));
}

void **__cudaRegisterFatBinary(void *binary) {
    static void *handle;
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterVar(void) {}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit,
                            void *thread, void *block, void *block_size, void *grid, int *warp) {
    if (!(kernel_count & (kernel_count - 1)))
        kernels = realloc(kernels, (kernel_count ? 2 * kernel_count : 1) * sizeof *kernels);
    kernels[kernel_count++] = (Kernel){host, name};
}

static const char *name_of(const void *host) {
    for (size_t i = 0; i < kernel_count; i++)
        if (kernels[i].host == host) return kernels[i].name;
    return "unnamed";
}

int __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, Stream *stream) {
    pushed = (Configuration){grid, block, shared, stream};
    return SUCCESS;
}

int __cudaPopCallConfiguration(Dim3 *grid, Dim3 *block, size_t *shared, Stream **stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *stream = pushed.stream;
    return SUCCESS;
}

int __cudaGetKernel(const void **kernel, const void *host) { *kernel = host; return SUCCESS; }

int cudaLaunchKernel(const void *host, Dim3 grid, Dim3 block, void **arguments, size_t shared, Stream *stream) {
    return TOLD(device_kernel(stream, name_of(host)));
}

int __cudaLaunchKernel(const void *host, Dim3 grid, Dim3 block, void **arguments, size_t shared, Stream *stream) {
    return cudaLaunchKernel(host, grid, block, arguments, shared, stream);
}

int cudaLaunchCooperativeKernel(const void *host, Dim3 grid, Dim3 block, void **arguments, size_t shared, Stream *stream) {
    return cudaLaunchKernel(host, grid, block, arguments, shared, stream);
}

int cudaLaunchKernelExC(const Configuration *configuration, const void *host, void **arguments) {
    return TOLD(device_kernel(configuration->stream, name_of(host)));
}

int cudaFuncGetAttributes(int *out, const void *host) {
    memset(out, 0, 88);
    out[6] = 1024; /* threads of a block */
    out[7] = 32;   /* registers of a thread */
    out[8] = out[9] = 90;
    return SUCCESS;
}

int cudaFuncSetAttribute(const void *host, int attribute, int value) { return SUCCESS; }
int cudaKernelSetAttributeForDevice(const void *host, int attribute, int value, int device) { return SUCCESS; }

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *host, int size, size_t shared, unsigned flags) {
    *blocks = 2;
    return SUCCESS;
}

/* ---- Refused, so that what needs them is seen ---- */

#define REFUSED(name) int name(void) { return TOLD(801); }
REFUSED(cudaFreeAsync)
REFUSED(cudaMallocFromPoolAsync)
REFUSED(cudaMemPoolCreate)
REFUSED(cudaMemPoolDestroy)
REFUSED(cudaMemPoolGetAttribute)
REFUSED(cudaMemPoolSetAttribute)
REFUSED(cudaMemPoolTrimTo)
REFUSED(cudaGetDriverEntryPointByVersion)
REFUSED(cudaLibraryGetKernel)
REFUSED(cudaLibraryLoadData)
REFUSED(cudaLibraryUnload)
