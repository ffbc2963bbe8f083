#include "call.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define TRY(EXPRESSION)                               \
    do {                                              \
        if (!call->status) call->status = EXPRESSION; \
    } while (0)

Call call_of(Node *node, OrtKernelContext *context) {
    OrtApi api = node->api;
    Call made = {.node = node, .context = context}, *call = &made;
    TRY(INPUT_COUNT(context, &made.input_count));
    return made;
}

void fail(Call *call, const char *format, ...) {
    if (call->status) return;
    char words[512], all[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    snprintf(all, sizeof all, "%s node '%s': %s", call->node->of->name, call->node->name, words);
    OrtApi api = call->node->api;
    call->status = CREATE_STATUS(INVALID_ARGUMENT, all);
}

Tensor input_at(Call *call, size_t index) {
    OrtApi api = call->node->api;
    Tensor tensor = {0};
    const OrtValue *value = NULL;
    OrtShape *shape = NULL;
    if (index >= call->input_count) return tensor;
    TRY(INPUT_OF(call->context, index, &value));
    if (call->status || !value) return tensor;
    TRY(SHAPE_OF(value, &shape));
    if (call->status) return tensor;
    TRY(RANK_OF(shape, &tensor.rank));
    if (tensor.rank > MAX_RANK)
        fail(call, "input %zu has %zu axes, expected at most %d", index, tensor.rank, MAX_RANK);
    TRY(EXTENTS_OF(shape, tensor.extents, tensor.rank));
    RELEASE_SHAPE(shape);
    TRY(DATA_OF((OrtValue *)value, &tensor.data));
    /* Without elements there may be no memory, and that is no input left out. */
    if (!tensor.data) tensor.data = (void *)16;
    return tensor;
}

const char *shape_text(const int64_t *extents, size_t rank, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "[");
    for (size_t i = 0; i < rank && used < size; i++) {
        const char *before = i ? ", " : "";
        used += extents[i] < 0 ? (size_t)snprintf(text + used, size - used, "%sany", before)
                               : (size_t)snprintf(text + used, size - used, "%s%lld", before, (long long)extents[i]);
    }
    if (used < size) snprintf(text + used, size - used, "]");
    return text;
}

void expect(Call *call, const Tensor *tensor, const char *name, const int64_t *extents, size_t rank) {
    if (call->status || !tensor->data) return;
    int same = tensor->rank == rank;
    for (size_t i = 0; same && i < rank; i++) same = extents[i] < 0 || extents[i] == tensor->extents[i];
    char found[128], expected[128];
    if (!same)
        fail(call, "input '%s' has the shape %s, expected %s", name,
             shape_text(tensor->extents, tensor->rank, found, sizeof found),
             shape_text(extents, rank, expected, sizeof expected));
}

void expect_vector(Call *call, const Tensor *tensor, const char *name, int64_t extent) {
    expect(call, tensor, name, &extent, 1);
}

void *output_at(Call *call, size_t index, const int64_t *extents, size_t rank) {
    OrtApi api = call->node->api;
    OrtValue *value = NULL;
    void *data = NULL;
    TRY(OUTPUT_OF(call->context, index, extents, rank, &value));
    if (!call->status && value) TRY(DATA_OF(value, &data));
    return call->status ? NULL : data;
}

int aligned(const void *const *addresses, size_t count) {
    for (size_t i = 0; i < count; i++)
        if ((uintptr_t)addresses[i] % 16) return 0;
    return 1;
}

int find_kernels(Node *node, char *reason, size_t size) {
    const int module = node->dtype == BFLOAT16 ? MODULE_BF16 : MODULE_F32_F16;
    return driver_find(module, node->kernel, &node->functions, reason, size);
}

void launch(Call *call, int by_packs, const int64_t grid[3], unsigned threads, void *arguments) {
    Node *node = call->node;
    OrtApi api = node->api;
    char reason[256];
    void *stream = NULL;
    TRY(STREAM_OF(call->context, &stream));
    if (call->status || !grid[0] || !grid[1] || !grid[2]) return;
    /* CUDA's bounds. */
    if (grid[0] > INT_MAX || grid[1] > 65535 || grid[2] > 65535) {
        fail(call, "a grid of %lld x %lld x %lld blocks is more than a kernel takes",
             (long long)grid[0], (long long)grid[1], (long long)grid[2]);
        return;
    }
    if (!node->functions.packs && find_kernels(node, reason, sizeof reason)) {
        fail(call, "%s", reason);
        return;
    }
    const unsigned blocks[3] = {(unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2]};
    void *function = by_packs ? node->functions.packs : node->functions.elements;
    if (driver_launch(&node->functions, function, blocks, threads, arguments, stream, reason, sizeof reason))
        fail(call, "%s", reason);
}
