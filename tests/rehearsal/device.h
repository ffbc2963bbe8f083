/* The device of the rehearsal, as the stand-ins of all libraries share it. */
#pragma once
#include <stddef.h>

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
    STREAM_CAPTURE_ISOLATION = 905,
    CAPTURED_EVENT = 907,
};

enum { MODE_GLOBAL = 0, MODE_THREAD_LOCAL = 1, MODE_RELAXED = 2 };
enum { CAPTURE_NONE = 0, CAPTURE_ACTIVE = 1, CAPTURE_INVALIDATED = 2 };
enum { MEMORY_PAGEABLE = 0, MEMORY_PINNED = 1, MEMORY_DEVICE = 2 };

typedef struct Stream Stream;
typedef struct Event Event;
typedef struct Graph Graph;

void device_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

int device_allocate(void **address, size_t size, int memory, const char *call);
int device_free(void *address, const char *call);
int device_memory_of(const void *address);
size_t device_in_use(void);

/* A call that CUDA forbids a thread while it captures, unless relaxed. */
int device_unsafe(const char *call);
/* A call that waits for a stream; NULL: for the device. */
int device_wait(Stream *stream, const char *call);

int device_kernel(Stream *stream, const char *name);
int device_copy(Stream *stream, void *to, const void *from, size_t size);
int device_fill(Stream *stream, void *to, int value, size_t size);
int device_host_function(Stream *stream, void (*function)(void *), void *argument);

Stream *device_stream(void);
void device_stream_end(Stream *stream);
int device_capture_begin(Stream *stream, int mode);
int device_capture_end(Stream *stream, Graph **graph);
int device_capture_status(Stream *stream);
void device_exchange_mode(int *mode);
int device_graph_launch(Graph *graph, Stream *stream);
int device_graph_nodes(const Graph *graph);
void device_graph_end(Graph *graph);

Event *device_event(void);
void device_event_end(Event *event);
int device_event_record(Event *event, Stream *stream);
int device_event_ask(Event *event, const char *call);
int device_event_wait(Stream *stream, Event *event);
