// output = before, and behind it act(gate + gate_bias) * (value + value_bias): a thread a pack.
#pragma once

#include "elements.cuh"

// x / (1 + e^-2u): with u = x / 2 it is SiLU. GELU by tanh is x * (1 + tanh(u)) / 2, which is the same.
static __device__ float by_sigmoid(float x, float twice_u) {
    return fast_quotient(x, 1 + fast_exp(-twice_u));
}

// activation is one for the whole grid.
static __device__ float activated(float x, int activation) {
    if (activation == SILU) return by_sigmoid(x, x);
    if (activation == GELU) return 0.5f * x * (1 + erff(x * 0.70710678f));
    return by_sigmoid(x, 1.5957691f * (x + 0.044715f * x * x * x)); // 2 * sqrt(2 / pi)
}

template <typename T, int SIZE>
static __device__ void read_biased(const void* from, long long start, const void* bias, int at,
                                   float (&numbers)[SIZE]) {
    read_stream((const T*)from + start + at, numbers);
    if (!bias) return;
    float other[SIZE];
    read_shared((const T*)bias + at, other);
    for (int i = 0; i < SIZE; ++i) numbers[i] += other[i];
}

template <typename T, int SIZE>
static __device__ void gated_activation(const GatedActivation& given) {
    const long long row = blockIdx.x;
    const int both = given.before_width + given.width;
    int at = (blockIdx.y * blockDim.x + threadIdx.x) * SIZE;
    if (at >= both) return;
    T* made = (T*)given.output + row * both + at;
    float numbers[SIZE];
    if (at < given.before_width) {
        read_stream((const T*)given.before + row * given.before_width + at, numbers);
        write(numbers, made);
        return;
    }
    at -= given.before_width;
    read_biased<T>(given.gate, row * given.stride, given.gate_bias, at, numbers);
    for (int i = 0; i < SIZE; ++i) numbers[i] = activated(numbers[i], given.activation);
    if (given.value) {
        float values[SIZE];
        read_biased<T>(given.value, row * given.stride, given.value_bias, at, values);
        for (int i = 0; i < SIZE; ++i) numbers[i] *= values[i];
    }
    write(numbers, made);
}
