/* libcuda.so.1 of the rehearsal: one device for all copies of the runtime in the process.

   Device memory is the host's, copies are done when they are enqueued, kernels do nothing, but for our
   own where REHEARSAL_KERNELS names a library that has them compiled for the host. What a
   capture allows is modelled as CUDA documents it:
   https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__STREAM.html
   https://docs.nvidia.com/cuda/cuda-programming-guide/04-special-topics/cuda-graphs.html
   Where the documents leave a choice, the stricter one is taken. Calls are logged to the file that
   REHEARSAL_LOG names, a line each: whether the calling thread captures (C), the call, the rest. */
#define _GNU_SOURCE
#include "device.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Node {
    struct Node *next;
    const char *kernel;
    unsigned grid[3], threads; /* of a kernel that is computed: its arguments are at `to` */
    void (*function)(void *);
    void *to;
    const void *from; /* of a fill: NULL */
    size_t size;
    int value;
} Node;

struct Graph {
    Node *first, **last;
    int nodes;
};

struct Stream {
    Stream *next;
    int number, status, mode;
    unsigned long long capture;
    pthread_t thread;
    Graph *graph;
};

struct Event {
    unsigned long long capture;
};

typedef struct Block {
    struct Block *next;
    char *address;
    size_t size;
    int memory;
} Block;

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static Stream *streams;
static Block *blocks;
static size_t in_use;
static unsigned long long captures;
static FILE *log_file;
static _Thread_local int thread_mode = MODE_GLOBAL;

static void hold(void) { pthread_mutex_lock(&lock); }
static void release(void) { pthread_mutex_unlock(&lock); }

static int captures_here(const Stream *stream) {
    return stream->status != CAPTURE_NONE && pthread_equal(stream->thread, pthread_self());
}

/* ---- The log ---- */

void device_log(const char *format, ...) {
    const char *path = getenv("REHEARSAL_LOG");
    if (!path) return;
    hold();
    if (!log_file) log_file = fopen(path, "w");
    int capturing = 0;
    for (Stream *each = streams; each; each = each->next) capturing |= captures_here(each);
    fputs(capturing ? "C " : "- ", log_file);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(log_file, format, arguments);
    va_end(arguments);
    fputc('\n', log_file);
    release();
}

/* For the driver of a rehearsal: a line of its own, and everything before it is in the file. */
void device_mark(const char *words) {
    device_log("# %s", words);
    hold();
    if (log_file) fflush(log_file);
    release();
}

/* ---- Memory ---- */

int device_allocate(void **address, size_t size, int memory, const char *call) {
    *address = NULL;
    int refused = device_unsafe(call);
    if (refused) return refused;
    Block *block = malloc(sizeof *block);
    if (posix_memalign((void **)&block->address, 512, size ? size : 1)) return 2;
    /* Not what a program may count on, and neither zeros nor anything that a program wrote. */
    memset(block->address, 0x5a, size);
    hold();
    *block = (Block){blocks, block->address, size, memory};
    blocks = block;
    in_use += memory == MEMORY_DEVICE ? size : 0;
    release();
    *address = block->address;
    device_log("%s %p %zu", call, *address, size);
    return SUCCESS;
}

int device_free(void *address, const char *call) {
    if (!address) return SUCCESS;
    int refused = device_unsafe(call);
    if (refused) return refused;
    hold();
    Block **each = &blocks;
    while (*each && (*each)->address != address) each = &(*each)->next;
    Block *found = *each;
    if (found) *each = found->next;
    if (found && found->memory == MEMORY_DEVICE) in_use -= found->size;
    release();
    if (!found) return INVALID_VALUE;
    device_log("%s %p %zu", call, address, found->size);
    free(found->address);
    free(found);
    return SUCCESS;
}

int device_memory_of(const void *address) {
    int memory = MEMORY_PAGEABLE;
    hold();
    for (Block *each = blocks; each; each = each->next)
        if ((const char *)address >= each->address && (const char *)address < each->address + each->size)
            memory = each->memory;
    release();
    return memory;
}

size_t device_in_use(void) { return in_use; }

/* ---- What a capture forbids ---- */

static int spoil(Stream *stream, int error, const char *call) {
    stream->status = CAPTURE_INVALIDATED;
    device_log("forbidden %s %d", call, error);
    return error;
}

int device_unsafe(const char *call) {
    int result = SUCCESS;
    if (thread_mode == MODE_RELAXED) return SUCCESS;
    hold();
    for (Stream *each = streams; each; each = each->next) {
        int ours = captures_here(each) && each->mode != MODE_RELAXED;
        int others = each->status != CAPTURE_NONE && !captures_here(each) &&
                     each->mode == MODE_GLOBAL && thread_mode == MODE_GLOBAL;
        if (ours || others) result = spoil(each, STREAM_CAPTURE_UNSUPPORTED, call);
    }
    release();
    return result;
}

int device_wait(Stream *stream, const char *call) {
    int result = SUCCESS;
    hold();
    for (Stream *each = streams; each; each = each->next) {
        int waited = stream ? each == stream && each->status != CAPTURE_NONE : captures_here(each);
        if (waited) result = spoil(each, STREAM_CAPTURE_UNSUPPORTED, call);
    }
    release();
    if (!result) device_log("%s %d", call, stream ? stream->number : 0);
    return result;
}

/* ---- Work ---- */

static int number_of(const Stream *stream) { return (size_t)stream > 2 ? stream->number : 0; }

static void (*run_kernel)(const char *name, const unsigned *grid, unsigned threads, const void *arguments);

static void do_node(const Node *node) {
    if (node->threads)
        run_kernel(node->kernel, node->grid, node->threads, node->to);
    else if (node->function)
        node->function(node->to);
    else if (node->from)
        memmove(node->to, node->from, node->size);
    else if (node->to)
        memset(node->to, node->value, node->size);
}

static int enqueue(Stream *stream, Node node) {
    if (!number_of(stream) || stream->status == CAPTURE_NONE) {
        do_node(&node);
        return SUCCESS;
    }
    if (stream->status == CAPTURE_INVALIDATED) {
        device_log("spoilt %d", STREAM_CAPTURE_INVALIDATED);
        return STREAM_CAPTURE_INVALIDATED;
    }
    Node *kept = malloc(sizeof *kept);
    *kept = node;
    *stream->graph->last = kept;
    stream->graph->last = &kept->next;
    stream->graph->nodes++;
    return SUCCESS;
}

int device_kernel(Stream *stream, const char *name) {
    device_log("kernel %d %s", number_of(stream), name);
    return enqueue(stream, (Node){.kernel = name});
}

int device_copy(Stream *stream, void *to, const void *from, size_t size) {
    static const char *const names[] = {"pageable", "pinned", "device"};
    int source = device_memory_of(from), target = device_memory_of(to);
    device_log("copy %d %s %p %s %p %zu", number_of(stream), names[source], from, names[target], to, size);
    /* The driver would stage such memory, and wait. */
    int staged = source == MEMORY_PAGEABLE || target == MEMORY_PAGEABLE;
    if (staged && number_of(stream) && stream->status == CAPTURE_ACTIVE)
        return spoil(stream, STREAM_CAPTURE_UNSUPPORTED, "copy of pageable memory");
    return enqueue(stream, (Node){.to = to, .from = from, .size = size});
}

int device_fill(Stream *stream, void *to, int value, size_t size) {
    device_log("fill %d %p %zu", number_of(stream), to, size);
    return enqueue(stream, (Node){.to = to, .value = value, .size = size});
}

int device_host_function(Stream *stream, void (*function)(void *), void *argument) {
    device_log("host_function %d", number_of(stream));
    return enqueue(stream, (Node){.function = function, .to = argument});
}

/* ---- Streams, captures and graphs ---- */

Stream *device_stream(void) {
    static int made;
    Stream *stream = calloc(1, sizeof *stream);
    hold();
    stream->number = ++made;
    stream->next = streams;
    streams = stream;
    release();
    return stream;
}

void device_stream_end(Stream *stream) {
    hold();
    Stream **each = &streams;
    while (*each && *each != stream) each = &(*each)->next;
    if (*each) *each = stream->next;
    release();
    free(stream);
}

int device_capture_begin(Stream *stream, int mode) {
    if (!number_of(stream)) return STREAM_CAPTURE_UNSUPPORTED;
    if (stream->status != CAPTURE_NONE) return spoil(stream, INVALID_VALUE, "BeginCapture");
    Graph *graph = calloc(1, sizeof *graph);
    graph->last = &graph->first;
    hold();
    stream->status = CAPTURE_ACTIVE;
    stream->mode = mode;
    stream->capture = ++captures;
    stream->thread = pthread_self();
    stream->graph = graph;
    release();
    device_log("capture_begin %d mode %d", stream->number, mode);
    return SUCCESS;
}

int device_capture_end(Stream *stream, Graph **graph) {
    *graph = NULL;
    if (!number_of(stream) || stream->status == CAPTURE_NONE) return INVALID_VALUE;
    int spoilt = stream->status == CAPTURE_INVALIDATED;
    device_log("capture_end %d spoilt %d nodes %d", stream->number, spoilt, stream->graph->nodes);
    hold();
    stream->status = CAPTURE_NONE;
    release();
    if (spoilt) {
        device_graph_end(stream->graph);
        return STREAM_CAPTURE_INVALIDATED;
    }
    *graph = stream->graph;
    return SUCCESS;
}

int device_capture_status(Stream *stream) { return number_of(stream) ? stream->status : CAPTURE_NONE; }

void device_exchange_mode(int *mode) {
    int before = thread_mode;
    thread_mode = *mode;
    *mode = before;
}

int device_graph_launch(Graph *graph, Stream *stream) {
    device_log("graph_launch %d nodes %d", number_of(stream), graph->nodes);
    if (number_of(stream) && stream->status != CAPTURE_NONE)
        return spoil(stream, STREAM_CAPTURE_UNSUPPORTED, "GraphLaunch");
    for (Node *each = graph->first; each; each = each->next) {
        if (each->from) device_log("replay_copy %p %p %zu", each->from, each->to, each->size);
        if (each->function) device_log("replay_host_function");
        do_node(each);
    }
    return SUCCESS;
}

int device_graph_nodes(const Graph *graph) { return graph->nodes; }

void device_graph_end(Graph *graph) {
    for (Node *each = graph->first, *next; each; each = next) {
        next = each->next;
        free(each);
    }
    free(graph);
}

/* ---- Events ---- */

Event *device_event(void) { return calloc(1, sizeof(Event)); }

void device_event_end(Event *event) { free(event); }

int device_event_record(Event *event, Stream *stream) {
    event->capture = number_of(stream) && stream->status != CAPTURE_NONE ? stream->capture : 0;
    if (event->capture) device_log("event_record %d", number_of(stream));
    return enqueue(stream, (Node){.kernel = "event"});
}

int device_event_ask(Event *event, const char *call) {
    if (event->capture) {
        device_log("forbidden %s %d", call, CAPTURED_EVENT);
        return CAPTURED_EVENT;
    }
    return device_unsafe(call);
}

int device_event_wait(Stream *stream, Event *event) {
    if (number_of(stream) && stream->status == CAPTURE_ACTIVE && event->capture != stream->capture)
        return spoil(stream, STREAM_CAPTURE_ISOLATION, "StreamWaitEvent");
    return enqueue(stream, (Node){.kernel = "wait"});
}

/* ---- The driver's own names, as far as the libraries use them ---- */

enum { NOT_FOUND = 500 };

typedef struct Module { const char *ptx; } Module;

static size_t (*arguments_of)(const char *name);
static void *context = &context;

int cuTensorMapEncodeTiled(void) { return SUCCESS; }

int cuGetErrorName(int error, const char **name) {
    *name = error == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR_OF_THE_REHEARSAL";
    return SUCCESS;
}

int cuCtxGetCurrent(void **current) { *current = context; return SUCCESS; }
int cuCtxSetCurrent(void *current) { return SUCCESS; }

int cuModuleLoadData(Module **module, const char *image) {
    int refused = device_unsafe(__func__);
    if (refused) return refused;
    const char *path = getenv("REHEARSAL_KERNELS");
    void *library = path ? dlopen(path, RTLD_NOW) : NULL;
    if (path && !library) return NOT_FOUND;
    if (library) *(void **)&run_kernel = dlsym(library, "host_launch");
    if (library) *(void **)&arguments_of = dlsym(library, "host_arguments");
    *module = malloc(sizeof **module);
    (*module)->ptx = strdup(image);
    device_log("%s", __func__);
    return SUCCESS;
}

/* The function is its name. */
int cuModuleGetFunction(char **function, Module *module, const char *name) {
    char entry[256];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    if (!strstr(module->ptx, entry)) return NOT_FOUND;
    *function = strdup(name);
    return SUCCESS;
}

int cuLaunchKernel(const char *name, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, Stream *stream, void **parameters, void **extra) {
    device_log("kernel %d %s", number_of(stream), name);
    if (!run_kernel) return enqueue(stream, (Node){.kernel = name});
    size_t size = arguments_of(name);
    if (!size) return NOT_FOUND;
    void *arguments = memcpy(malloc(size), parameters[0], size);
    return enqueue(stream, (Node){.kernel = name, .grid = {x, y, z}, .threads = threads, .to = arguments});
}
