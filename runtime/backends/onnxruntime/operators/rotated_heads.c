#include "arguments.h"
#include "operators.h"

#include <math.h>

typedef struct {
    Node node;
    int heads, halves;
    float epsilon; /* NaN: not given. */
} Made;

enum { FIRST, FIRST_BIAS, FIRST_WEIGHT, SECOND, SECOND_BIAS, SECOND_WEIGHT, COSINES, SINES, INPUTS };

static void create(void *into, OrtApi api, const OrtKernelInfo *info, Call *call) {
    Made *made = into;
    made->epsilon = NAN;
    read_integer(api, info, "heads", &made->heads);
    read_integer(api, info, "halves", &made->halves);
    read_float(api, info, "epsilon", &made->epsilon);
    if (made->heads < 1) fail(call, "attribute 'heads' is %d, expected 1 or more", made->heads);
}

static void check(Call *call, const Made *made, const Tensor *in, int64_t tokens) {
    const int64_t *shape = in[FIRST].extents, channels = shape[2], width = channels / made->heads;
    if (channels % made->heads)
        fail(call, "input 'first' has %lld channels, expected a multiple of %d heads", (long long)channels, made->heads);
    expect_vector(call, &in[FIRST_BIAS], "first_bias", channels);
    expect_vector(call, &in[FIRST_WEIGHT], "first_weight", width);
    expect(call, &in[SECOND], "second", (int64_t[]){shape[0], -1, channels}, 3);
    expect_vector(call, &in[SECOND_BIAS], "second_bias", channels);
    expect_vector(call, &in[SECOND_WEIGHT], "second_weight", width);
    if (!in[SECOND].data && (in[SECOND_BIAS].data || in[SECOND_WEIGHT].data))
        fail(call, "'second_bias' or 'second_weight' is there without 'second'");
    if ((in[FIRST_WEIGHT].data || in[SECOND_WEIGHT].data) && isnan(made->epsilon))
        fail(call, "a norm of heads needs the attribute 'epsilon'");
    if (!in[COSINES].data != !in[SINES].data) fail(call, "one of 'cosines' and 'sines' is there without the other");
    if (!in[COSINES].data || call->status) return;
    const int64_t *table = in[COSINES].extents;
    expect(call, &in[COSINES], "cosines", (int64_t[]){table[0] == 1 ? 1 : shape[0], tokens, table[2] == width ? width : width / 2}, 3);
    expect(call, &in[SINES], "sines", table, 3);
    if (width % 2) fail(call, "heads of %lld channels cannot be rotated: expected an even number", (long long)width);
}

static int log_lanes_for(int64_t threads) {
    int log = 0;
    while (1 << log < threads && log < 5) log++;
    return log;
}

/* Whole warps. */
static unsigned threads_for(int heads, int log_lanes) {
    const int64_t at_once = (heads + ROTATED_HEADS_EACH - 1) / ROTATED_HEADS_EACH;
    const int64_t threads = ((at_once << log_lanes) + 31) / 32 * 32;
    return threads < ROTATED_HEADS_THREADS ? (unsigned)threads : ROTATED_HEADS_THREADS;
}

static void run(const void *from, Call *call) {
    const Made *made = from;
    Tensor in[INPUTS];
    for (int i = 0; i < INPUTS; i++) in[i] = input_at(call, (size_t)i);
    expect(call, &in[FIRST], "first", (int64_t[]){-1, -1, -1}, 3);
    if (call->status) return;
    const int64_t *shape = in[FIRST].extents, rows = shape[0], channels = shape[2];
    const int64_t tokens = shape[1] + (in[SECOND].data ? in[SECOND].extents[1] : 0);
    check(call, made, in, tokens);
    if (call->status) return;
    const int64_t width = channels / made->heads, table_width = in[COSINES].data ? in[COSINES].extents[2] : 0;
    RotatedHeads given = {
        .first = in[FIRST].data, .first_bias = in[FIRST_BIAS].data, .first_weight = in[FIRST_WEIGHT].data,
        .second = in[SECOND].data, .second_bias = in[SECOND_BIAS].data, .second_weight = in[SECOND_WEIGHT].data,
        .cosines = in[COSINES].data, .sines = in[SINES].data,
        .output = output_at(call, 0, (int64_t[]){rows, tokens, channels}, 3),
        .table_stride = in[COSINES].extents[0] == 1 ? 0 : tokens * table_width,
        .first_tokens = (int)shape[1], .heads = made->heads, .width = (int)width,
        .table_width = (int)table_width, .halves = made->halves, .epsilon = made->epsilon,
    };
    if (call->status || !rows || !tokens || !channels) return;
    const void *addresses[] = {given.first, given.first_bias, given.first_weight, given.second, given.second_bias,
                               given.second_weight, given.cosines, given.sines, given.output};
    /* A thread has two packs, and a head at most one warp. */
    const int by_packs = width % (2 * WIDTH) == 0 && width <= 32 * 2 * WIDTH &&
                         aligned(addresses, sizeof addresses / sizeof *addresses);
    given.log_lanes = log_lanes_for(by_packs ? width / (2 * WIDTH) : width);
    launch(call, by_packs, (int64_t[]){tokens, 1, rows}, threads_for(made->heads, given.log_lanes), &given);
}

const Operator rotated_heads = {
    .name = "RotatedHeads", .kernel = "rotated_heads", .inputs = INPUTS, .required = 1, .outputs = 1,
    .outputs_needed = REQUIRED, .first_table = COSINES, .tables = 2, .size = sizeof(Made), .create = create, .run = run,
};
