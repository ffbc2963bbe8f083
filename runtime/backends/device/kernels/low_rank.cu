// weight <- weight + up @ down, in fp32, rounded once to the dtype that the weight is stored in.
//
//     weight [outputs, inputs], in place    up [outputs, rank]    down [rank, inputs], both fp32
//
// A block has THREADS neighbouring columns of ROWS rows; a thread makes ROWS numbers of one column,
// so that each number of `down` that it reads serves them all, and reads of `up` are broadcast. The
// grid is [ceil(inputs / THREADS), ceil(outputs / ROWS)].
//
// What is made of this file is low_rank.ptx: python -m scripts.compile_kernels. A test compiles it
// for the host as well and runs it there, with STORED_AS_HALF of its own.

#include "numbers.h"

#define ROWS 8

static __device__ float same(float number) { return number; }

#define LAY(NAME, STORED, FROM, TO)                                                          \
    extern "C" __global__ void NAME(STORED* weight, const float* up, const float* down,      \
                                    int outputs, int inputs, int rank) {                     \
        const int column = blockIdx.x * blockDim.x + threadIdx.x;                            \
        const int first = blockIdx.y * ROWS;                                                 \
        if (column >= inputs) return;                                                        \
        float sums[ROWS] = {};                                                               \
        for (int k = 0; k < rank; ++k) {                                                     \
            const float factor = down[(long long)k * inputs + column];                       \
            for (int row = 0; row < ROWS; ++row)                                             \
                if (first + row < outputs)                                                   \
                    sums[row] += up[(long long)(first + row) * rank + k] * factor;           \
        }                                                                                    \
        for (int row = 0; row < ROWS; ++row) {                                               \
            if (first + row >= outputs) return;                                              \
            STORED* number = weight + (long long)(first + row) * inputs + column;            \
            *number = TO(FROM(*number) + sums[row]);                                         \
        }                                                                                    \
    }

LAY(low_rank_f32, float, same, same)
LAY(low_rank_f16, bits16, from_half, to_half)
LAY(low_rank_bf16, bits16, from_bfloat, to_bfloat)
