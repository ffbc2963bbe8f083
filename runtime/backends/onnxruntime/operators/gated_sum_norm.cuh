// sum = x + gate * f(branch + bias), and normed = norm(sum) * weight * (1 + scale) + shift: one block
// a row. A thread keeps KEPT times SIZE elements in registers between the passes; what a longer row
// has more is read and computed again in each of them.
#pragma once

#include "elements.cuh"

template <typename T, int SIZE> struct Row {
    const T *x, *branch, *bias, *branch_weight, *gate, *weight, *scale, *shift;
    T *normed, *sum;
    bool gate_tanh;
    float branch_factor;

    __device__ Row(const GatedSumNorm& given) {
        const long long row = blockIdx.x, start = row * given.channels;
        const long long evaluation = blockIdx.x / given.tokens;
        x = (const T*)given.x + start;
        branch = given.branch ? (const T*)given.branch + start : nullptr;
        bias = (const T*)given.bias;
        branch_weight = (const T*)given.branch_weight;
        gate = given.gate ? (const T*)given.gate + evaluation * given.gate_stride : nullptr;
        weight = (const T*)given.weight;
        scale = given.scale ? (const T*)given.scale + evaluation * given.scale_stride : nullptr;
        shift = given.shift ? (const T*)given.shift + evaluation * given.shift_stride : nullptr;
        normed = given.normed ? (T*)given.normed + start : nullptr;
        sum = given.sum ? (T*)given.sum + start : nullptr;
        gate_tanh = given.gate_tanh;
        branch_factor = 1;
    }

    // branch + bias.
    __device__ void branch_at(int at, float (&numbers)[SIZE]) const {
        for (int i = 0; i < SIZE; ++i) numbers[i] = 0;
        if (branch) read_stream(branch + at, numbers);
        float other[SIZE];
        if (bias) {
            read_shared(bias + at, other);
            for (int i = 0; i < SIZE; ++i) numbers[i] += other[i];
        }
    }

    // The sum as it is stored, in the place of branch + bias.
    __device__ void add(int at, const Pack<T, SIZE>& residual, float (&numbers)[SIZE]) const {
        float other[SIZE];
        if (!branch) {
            unpack(residual, numbers);
            return;
        }
        if (branch_weight) {
            read_shared(branch_weight + at, other);
            for (int i = 0; i < SIZE; ++i) numbers[i] *= branch_factor * other[i];
        }
        if (gate) {
            read_shared(gate + at, other);
            for (int i = 0; i < SIZE; ++i) numbers[i] *= gate_tanh ? tanhf(other[i]) : other[i];
        }
        unpack(residual, other);
        for (int i = 0; i < SIZE; ++i) numbers[i] = rounded<T>(other[i] + numbers[i]);
    }

    __device__ void sum_at(int at, float (&numbers)[SIZE]) const {
        const Pack<T, SIZE> residual = pack_of_stream<T, SIZE>(x + at);
        branch_at(at, numbers);
        add(at, residual, numbers);
    }

    __device__ void norm(int at, float mean, float factor, float (&numbers)[SIZE]) const {
        float other[SIZE];
        for (int i = 0; i < SIZE; ++i) numbers[i] = (numbers[i] - mean) * factor;
        if (weight) {
            read_shared(weight + at, other);
            for (int i = 0; i < SIZE; ++i) numbers[i] *= other[i];
        }
        if (scale) {
            read_shared(scale + at, other);
            for (int i = 0; i < SIZE; ++i) numbers[i] *= 1 + other[i];
        }
        if (shift) {
            read_shared(shift + at, other);
            for (int i = 0; i < SIZE; ++i) numbers[i] += other[i];
        }
        write(numbers, normed + at);
    }
};

template <int SIZE> static __device__ float sum_of(const float (&numbers)[SIZE]) {
    float sum = 0;
    for (int i = 0; i < SIZE; ++i) sum += numbers[i];
    return sum;
}

template <int SIZE> static __device__ float squares_of(const float (&numbers)[SIZE], float mean) {
    float sum = 0;
    for (int i = 0; i < SIZE; ++i) sum += (numbers[i] - mean) * (numbers[i] - mean);
    return sum;
}

// Loops over the first elements of each of a thread's packs: those in registers, and the others.
#define EACH_KEPT                                                                                \
    _Pragma("unroll") for (int k = 0, at = threadIdx.x * SIZE; k < KEPT; ++k, at += step)        \
        if (at < channels)
#define EACH_OTHER                                                                               \
    _Pragma("unroll 1") for (int at = threadIdx.x * SIZE + KEPT * step; at < channels; at += step)

template <typename T, int SIZE, int KEPT>
static __device__ void gated_sum_norm(const GatedSumNorm& given) {
    const int channels = given.channels, step = blockDim.x * SIZE;
    Row<T, SIZE> row(given);
    Pack<T, SIZE> residual[KEPT];
    float kept[KEPT][SIZE], other[SIZE];
    EACH_KEPT {
        residual[k] = pack_of_stream<T, SIZE>(row.x + at);
        row.branch_at(at, kept[k]);
    }
    if (row.branch_weight) {
        float squares = 0;
        EACH_KEPT squares += squares_of(kept[k], 0);
        EACH_OTHER {
            row.branch_at(at, other);
            squares += squares_of(other, 0);
        }
        row.branch_factor = rsqrtf(sum_of_block(squares) / channels + given.branch_epsilon);
    }
    float total = 0;
    EACH_KEPT {
        row.add(at, residual[k], kept[k]);
        if (row.sum) write(kept[k], row.sum + at);
        total += sum_of(kept[k]);
    }
    EACH_OTHER {
        row.sum_at(at, other);
        if (row.sum) write(other, row.sum + at);
        total += sum_of(other);
    }
    if (!row.normed) return;
    const float mean = given.layer ? sum_of_block(total) / channels : 0;
    float squares = 0;
    EACH_KEPT squares += squares_of(kept[k], mean);
    EACH_OTHER {
        row.sum_at(at, other);
        squares += squares_of(other, mean);
    }
    const float factor = rsqrtf(sum_of_block(squares) / channels + given.epsilon);
    EACH_KEPT row.norm(at, mean, factor, kept[k]);
    EACH_OTHER {
        row.sum_at(at, other);
        row.norm(at, mean, factor, other);
    }
}
