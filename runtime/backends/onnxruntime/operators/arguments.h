// The arguments of our kernels, which the library fills in and a kernel takes as its only parameter.
// In C and in CUDA alike. An address of 0 is an input or output that is left out.
#pragma once

#define WIDTH 8 // Elements that a thread takes at once on the fast path; the general path takes one.

// One block a row of `channels` elements, those of one evaluation share its modulations: a grid of
// [tokens, 1, evaluations].
#define GATED_SUM_NORM_THREADS 128 // at most
#define GATED_SUM_NORM_KEPT 4      // packs that a thread keeps in registers
typedef struct {
    const void *x, *branch, *bias, *branch_weight, *gate, *weight, *scale, *shift;
    void *normed, *sum;
    // Elements from one evaluation's modulation to the next one's; 0 where all share one.
    long long gate_stride, scale_stride, shift_stride;
    int channels;
    int layer, gate_tanh;
    float epsilon, branch_epsilon;
} GatedSumNorm;

// One block a token, 2^log_lanes neighbouring threads a head: a grid of [tokens, 1, evaluations].
#define ROTATED_HEADS_THREADS 256 // at most
#define ROTATED_HEADS_EACH 2      // heads that a thread takes one after another, at least
typedef struct {
    const void *first, *first_bias, *first_weight, *second, *second_bias, *second_weight;
    const float *cosines, *sines;
    void *output;
    long long table_stride; // elements from one evaluation's table to the next one's
    int first_tokens;
    int heads, width, table_width;
    int log_lanes, halves;
    float epsilon;
} RotatedHeads;

// A thread for each WIDTH elements of a row: a grid of [rows, blocks a row].
#define GATED_ACTIVATION_THREADS 256
enum { SILU, GELU, GELU_TANH };
typedef struct {
    const void *gate, *gate_bias, *value, *value_bias, *before;
    void *output;
    long long stride; // elements from one row of gate and value to the next
    int before_width, width;
    int activation;
} GatedActivation;
