#include "arguments.h"
#include "operators.h"

#include <string.h>

typedef struct {
    Node node;
    int activation, packed;
} Made;

enum { GATE, GATE_BIAS, VALUE, VALUE_BIAS, BEFORE, INPUTS };

static void create(void *into, OrtApi api, const OrtKernelInfo *info, Call *call) {
    static const char *const names[] = {[SILU] = "silu", [GELU] = "gelu", [GELU_TANH] = "gelu_tanh"};
    Made *made = into;
    char name[16] = "";
    read_string(api, info, "activation", name);
    read_integer(api, info, "packed", &made->packed);
    made->activation = -1;
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) made->activation = i;
    if (made->activation < 0)
        fail(call, "attribute 'activation' is '%s', expected 'silu', 'gelu' or 'gelu_tanh'", name);
}

static void check(Call *call, const Made *made, const Tensor *in, int64_t width) {
    const size_t rank = in[GATE].rank;
    const int64_t last = in[GATE].extents[rank - 1];
    expect_vector(call, &in[GATE_BIAS], "gate_bias", last);
    expect(call, &in[VALUE], "value", in[GATE].extents, rank);
    expect_vector(call, &in[VALUE_BIAS], "value_bias", width);
    int64_t extents[MAX_RANK];
    memcpy(extents, in[GATE].extents, sizeof extents);
    extents[rank - 1] = -1;
    expect(call, &in[BEFORE], "before", extents, rank);
    if (made->packed && last % 2) fail(call, "input 'gate' has %lld channels, expected an even number: value and gate", (long long)last);
    if (made->packed && in[VALUE].data) fail(call, "input 'value' is there, though 'gate' has both (packed = 1)");
    if (in[VALUE_BIAS].data && !in[VALUE].data) fail(call, "input 'value_bias' is there without 'value'");
}

/* Packed, the value comes first, and the gate behind it. */
static void unpack(GatedActivation *given, int64_t bytes) {
    given->value = given->gate;
    given->value_bias = given->gate_bias;
    given->gate = (const char *)given->gate + given->width * bytes;
    if (given->gate_bias) given->gate_bias = (const char *)given->gate_bias + given->width * bytes;
}

static void run(const void *from, Call *call) {
    const Made *made = from;
    Tensor in[INPUTS];
    for (int i = 0; i < INPUTS; i++) in[i] = input_at(call, (size_t)i);
    if (!call->status && !in[GATE].rank) fail(call, "input 'gate' has no axes, expected one or more");
    if (call->status) return;
    const size_t rank = in[GATE].rank;
    const int64_t last = in[GATE].extents[rank - 1], width = made->packed ? last / 2 : last;
    const int64_t before = in[BEFORE].data ? in[BEFORE].extents[rank - 1] : 0;
    check(call, made, in, width);
    if (call->status) return;
    int64_t extents[MAX_RANK], rows = 1;
    memcpy(extents, in[GATE].extents, sizeof extents);
    extents[rank - 1] = before + width;
    for (size_t i = 0; i + 1 < rank; i++) rows *= extents[i];
    GatedActivation given = {
        .gate = in[GATE].data, .gate_bias = in[GATE_BIAS].data, .value = in[VALUE].data,
        .value_bias = in[VALUE_BIAS].data, .before = in[BEFORE].data, .output = output_at(call, 0, extents, rank),
        .stride = last, .before_width = (int)before, .width = (int)width, .activation = made->activation,
    };
    if (call->status || !rows || !extents[rank - 1]) return;
    if (made->packed) unpack(&given, made->node.dtype == FLOAT32 ? 4 : 2);
    const void *addresses[] = {given.gate, given.gate_bias, given.value, given.value_bias, given.before, given.output};
    const int by_packs = width % WIDTH == 0 && before % WIDTH == 0 &&
                         aligned(addresses, sizeof addresses / sizeof *addresses);
    const int64_t packs = (before + width) / (by_packs ? WIDTH : 1), threads = GATED_ACTIVATION_THREADS;
    launch(call, by_packs, (int64_t[]){rows, (packs + threads - 1) / threads, 1}, (unsigned)threads, &given);
}

const Operator gated_activation = {
    .name = "GatedActivation", .kernel = "gated_activation", .inputs = INPUTS, .required = 1, .outputs = 1,
    .outputs_needed = REQUIRED, .size = sizeof(Made), .create = create, .run = run,
};
