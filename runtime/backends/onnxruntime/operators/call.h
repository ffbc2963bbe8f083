/* One run of a node: its inputs, checked, its outputs, and its launch. The first thing that is wrong is
   kept in `status`, and nothing is done behind it. */
#pragma once
#include "driver.h"
#include "vendor.h"

enum { MAX_RANK = 8 };

typedef struct {
    void *data; /* NULL: left out. */
    int64_t extents[MAX_RANK];
    size_t rank;
} Tensor;

typedef struct Operator Operator;

/* A node of a graph: what a kernel of any operator begins with. */
typedef struct {
    const Operator *of;
    char name[128];
    int dtype;
    OrtApi api;
    Functions functions;
    char kernel[64]; /* Its name, without the path's. */
} Node;

typedef struct {
    Node *node;
    OrtKernelContext *context;
    size_t input_count;
    OrtStatus *status;
} Call;

struct Operator {
    const char *name, *kernel;
    size_t inputs, required, outputs;
    int outputs_needed;         /* REQUIRED or OPTIONAL. */
    size_t first_table, tables; /* Inputs that are float32 whatever the operator's dtype is. */
    size_t size;                /* Of what `create` fills in, which is zeros behind its Node. */
    void (*create)(void *made, OrtApi api, const OrtKernelInfo *info, Call *call);
    void (*run)(const void *made, Call *call);
};

Call call_of(Node *node, OrtKernelContext *context);

/* Keeps an error: "OPERATOR node NAME: ...". */
void fail(Call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* An input, which may be left out. */
Tensor input_at(Call *call, size_t index);

/* Fails where the input is there with another shape. `name` is the input's; an extent of -1 is any. */
void expect(Call *call, const Tensor *tensor, const char *name, const int64_t *extents, size_t rank);
void expect_vector(Call *call, const Tensor *tensor, const char *name, int64_t extent);

/* An output's memory; NULL where it is left out, or something is wrong. */
void *output_at(Call *call, size_t index, const int64_t *extents, size_t rank);

/* A tensor's shape as "[2, 77, 5]". */
const char *shape_text(const int64_t *extents, size_t rank, char *text, size_t size);

/* 1 where 16-byte accesses are allowed to each of these addresses (NULL included). */
int aligned(const void *const *addresses, size_t count);

/* Finds the node's kernels in the current context. Returns 0, or -1 with the reason in `reason`. */
int find_kernels(Node *node, char *reason, size_t size);

/* Launches the node's kernel on the run's stream. */
void launch(Call *call, int by_packs, const int64_t grid[3], unsigned threads, void *arguments);
