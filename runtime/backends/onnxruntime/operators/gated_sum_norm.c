#include "arguments.h"
#include "operators.h"

#include <math.h>
#include <string.h>

typedef struct {
    Node node;
    int layer, gate_tanh; /* layer -1: no norm. */
    float epsilon, branch_epsilon; /* NaN: not given. */
} Made;

enum { X, BRANCH, BIAS, BRANCH_WEIGHT, GATE, WEIGHT, SCALE, SHIFT, INPUTS };

static void create(void *into, OrtApi api, const OrtKernelInfo *info, Call *call) {
    Made *made = into;
    char norm[16] = "";
    made->epsilon = made->branch_epsilon = NAN;
    read_string(api, info, "norm", norm);
    read_integer(api, info, "gate_tanh", &made->gate_tanh);
    read_float(api, info, "epsilon", &made->epsilon);
    read_float(api, info, "branch_epsilon", &made->branch_epsilon);
    made->layer = !norm[0] ? -1 : !strcmp(norm, "layer");
    if (norm[0] && strcmp(norm, "layer") && strcmp(norm, "rms"))
        fail(call, "attribute 'norm' is '%s', expected 'layer' or 'rms'", norm);
}

/* [R, 1, C], [R, C], or either with an R of 1. Returns the elements from one R to the next. */
static long long stride_of(Call *call, const Tensor *tensor, const char *name, int64_t rows, int64_t channels) {
    if (!tensor->data) return 0;
    const int64_t one = tensor->extents[0] == 1 ? 1 : rows;
    if (tensor->rank == 2) expect(call, tensor, name, (int64_t[]){one, channels}, 2);
    else expect(call, tensor, name, (int64_t[]){one, 1, channels}, 3);
    return one == 1 ? 0 : channels;
}

static void check(Call *call, const Made *made, const Tensor *in, int normed) {
    const int64_t *shape = in[X].extents;
    expect(call, &in[X], "x", (int64_t[]){-1, -1, -1}, 3);
    expect(call, &in[BRANCH], "branch", shape, 3);
    expect_vector(call, &in[BIAS], "bias", shape[2]);
    expect_vector(call, &in[BRANCH_WEIGHT], "branch_weight", shape[2]);
    expect_vector(call, &in[WEIGHT], "weight", shape[2]);
    static const char *const names[] = {"bias", "branch_weight", "gate"};
    for (int i = BIAS; i <= GATE; i++)
        if (in[i].data && !in[BRANCH].data) fail(call, "input '%s' is there without 'branch'", names[i - BIAS]);
    if (normed && (made->layer < 0 || isnan(made->epsilon)))
        fail(call, "output 'normed' needs the attributes 'norm' and 'epsilon'");
    if (in[BRANCH_WEIGHT].data && isnan(made->branch_epsilon))
        fail(call, "input 'branch_weight' needs the attribute 'branch_epsilon'");
}

/* Whole warps, whose threads keep as many packs as they can. */
static unsigned threads_for(int64_t packs) {
    const int64_t threads = (packs + GATED_SUM_NORM_KEPT - 1) / GATED_SUM_NORM_KEPT;
    return threads < GATED_SUM_NORM_THREADS ? (unsigned)((threads + 31) / 32 * 32) : GATED_SUM_NORM_THREADS;
}

static void run(const void *from, Call *call) {
    const Made *made = from;
    Tensor in[INPUTS];
    for (int i = 0; i < INPUTS; i++) in[i] = input_at(call, (size_t)i);
    if (call->status) return;
    GatedSumNorm given = {.layer = made->layer, .gate_tanh = made->gate_tanh,
                          .epsilon = made->epsilon, .branch_epsilon = made->branch_epsilon};
    expect(call, &in[X], "x", (int64_t[]){-1, -1, -1}, 3);
    const int64_t *shape = in[X].extents, rows = shape[0], channels = shape[2];
    given.gate_stride = stride_of(call, &in[GATE], "gate", rows, channels);
    given.scale_stride = stride_of(call, &in[SCALE], "scale", rows, channels);
    given.shift_stride = stride_of(call, &in[SHIFT], "shift", rows, channels);
    given.normed = output_at(call, 0, shape, 3);
    given.sum = output_at(call, 1, shape, 3);
    check(call, made, in, given.normed != NULL);
    if (call->status || (!given.normed && !given.sum) || !rows || !shape[1] || !channels) return;
    given.x = in[X].data;
    given.branch = in[BRANCH].data;
    given.bias = in[BIAS].data;
    given.branch_weight = in[BRANCH_WEIGHT].data;
    given.gate = in[GATE].data;
    given.weight = in[WEIGHT].data;
    given.scale = in[SCALE].data;
    given.shift = in[SHIFT].data;
    given.channels = (int)channels;
    const void *addresses[] = {given.x, given.branch, given.bias, given.branch_weight, given.gate,
                               given.weight, given.scale, given.shift, given.normed, given.sum};
    const int by_packs = channels % WIDTH == 0 && aligned(addresses, sizeof addresses / sizeof *addresses);
    const unsigned threads = threads_for(by_packs ? channels / WIDTH : channels);
    launch(call, by_packs, (int64_t[]){shape[1], 1, rows}, threads, &given);
}

const Operator gated_sum_norm = {
    .name = "GatedSumNorm", .kernel = "gated_sum_norm", .inputs = INPUTS, .required = 1, .outputs = 2,
    .outputs_needed = OPTIONAL, .size = sizeof(Made), .create = create, .run = run,
};
