// Heads of one or two streams of tokens, behind each other: with a bias, normed and rotated, each of
// these if it is asked for. 2^log_lanes neighbouring threads have one head.
#pragma once

#include "elements.cuh"

// One head of one token.
template <typename T> struct Head {
    const T *read, *bias, *weight;
    const float *cosines, *sines;
    T* made;
    bool exists;

    // Threads behind the last head stay for the sums of their warp: they have the last head.
    __device__ Head(const RotatedHeads& given) {
        const int index = blockIdx.y * blockDim.x + threadIdx.x >> given.log_lanes;
        exists = index < given.heads;
        const int head = exists ? index : given.heads - 1;
        const long long evaluation = blockIdx.z;
        const int tokens = gridDim.x, token = blockIdx.x;
        const bool first = token < given.first_tokens;
        const long long place =
            first ? evaluation * given.first_tokens + token
                  : evaluation * (tokens - given.first_tokens) + token - given.first_tokens;
        const long long channels = (long long)given.heads * given.width;
        const long long within = (long long)head * given.width;
        read = (const T*)(first ? given.first : given.second) + place * channels + within;
        bias = (const T*)(first ? given.first_bias : given.second_bias);
        if (bias) bias += within;
        weight = (const T*)(first ? given.first_weight : given.second_weight);
        const long long table =
            evaluation * given.table_stride + (long long)token * given.table_width;
        cosines = given.cosines ? given.cosines + table : nullptr;
        sines = given.cosines ? given.sines + table : nullptr;
        made = (T*)given.output + (evaluation * tokens + token) * channels + within;
    }
};

// The factor of a head's norm from one thread's share of the squares.
static __device__ float norm_factor(float squares, const RotatedHeads& given) {
    return rsqrtf(sum_of_lanes(squares, 1 << given.log_lanes) / given.width + given.epsilon);
}

// The fast path: a thread has two packs of a head, half a head apart, so that both members of a pair
// are its own, be they neighbours or halves apart. `width` is a multiple of 2 * WIDTH.

// One table's number for each element of both packs.
template <bool HALVES>
static __device__ void read_table(const float* table, const int (&at)[2], bool for_elements,
                                  float (&numbers)[2][WIDTH]) {
    if (for_elements) {
        for (int k = 0; k < 2; ++k) read_shared(table + at[k], numbers[k]);
    } else if (HALVES) {
        read_shared(table + at[0], numbers[0]);
        for (int i = 0; i < WIDTH; ++i) numbers[1][i] = numbers[0][i];
    } else {
        float pairs[WIDTH / 2];
        for (int k = 0; k < 2; ++k) {
            read_shared(table + at[k] / 2, pairs);
            for (int i = 0; i < WIDTH; ++i) numbers[k][i] = pairs[i / 2];
        }
    }
}

template <bool HALVES, typename T>
static __device__ void turn(const Head<T>& head, const int (&at)[2], bool for_elements,
                            float (&x)[2][WIDTH]) {
    float cosines[2][WIDTH], sines[2][WIDTH];
    read_table<HALVES>(head.cosines, at, for_elements, cosines);
    read_table<HALVES>(head.sines, at, for_elements, sines);
#pragma unroll
    for (int pair = 0; pair < WIDTH; ++pair) {
        // The pack and the place of the pair's first and second member.
        const int k = HALVES ? 0 : pair / (WIDTH / 2), i = HALVES ? pair : 2 * pair % WIDTH;
        const int l = HALVES ? 1 : k, j = HALVES ? pair : i + 1;
        const float first = x[k][i], second = x[l][j];
        x[k][i] = first * cosines[k][i] - second * sines[k][i];
        x[l][j] = second * cosines[l][j] + first * sines[l][j];
    }
}

template <typename T> static __device__ void rotated_heads_of_packs(const RotatedHeads& given) {
    const Head<T> head(given);
    const int pack = (threadIdx.x & (1 << given.log_lanes) - 1) * WIDTH;
    const int at[2] = {pack, pack + given.width / 2};
    const bool here = head.exists && pack < given.width / 2;
    float x[2][WIDTH] = {}, other[WIDTH];
    if (here)
        for (int k = 0; k < 2; ++k) {
            read_stream(head.read + at[k], x[k]);
            if (head.bias) {
                read_shared(head.bias + at[k], other);
                for (int i = 0; i < WIDTH; ++i) x[k][i] += other[i];
            }
        }
    // All threads of a warp take part in its sums: what they have of no head is 0. One of two streams
    // may have no weight, but a block has one token's heads.
    if (head.weight) {
        float squares = 0;
        for (int k = 0; k < 2; ++k)
            for (int i = 0; i < WIDTH; ++i) squares += x[k][i] * x[k][i];
        const float factor = norm_factor(squares, given);
        if (here)
            for (int k = 0; k < 2; ++k) {
                read_shared(head.weight + at[k], other);
                for (int i = 0; i < WIDTH; ++i) x[k][i] *= factor * other[i];
            }
    }
    if (!here) return;
    const bool for_elements = given.table_width == given.width;
    if (head.cosines && given.halves) turn<true>(head, at, for_elements, x);
    else if (head.cosines) turn<false>(head, at, for_elements, x);
    for (int k = 0; k < 2; ++k) write(x[k], head.made + at[k]);
}

// The general path: a thread takes an element at a time, and reads the other member of its pair too.

template <typename T> static __device__ float element_of(const Head<T>& head, int at) {
    return number_of(head.read[at]) + (head.bias ? number_of(head.bias[at]) : 0);
}

template <typename T>
static __device__ float normed_element(const Head<T>& head, int at, float factor) {
    const float x = element_of(head, at);
    return head.weight ? x * (factor * number_of(head.weight[at])) : x;
}

template <typename T> static __device__ void rotated_heads_of_elements(const RotatedHeads& given) {
    const Head<T> head(given);
    const int lanes = 1 << given.log_lanes, lane = threadIdx.x & lanes - 1, half = given.width / 2;
    float factor = 1;
    if (head.weight) {
        float squares = 0;
        for (int at = lane; at < given.width; at += lanes) {
            const float x = element_of(head, at);
            squares += x * x;
        }
        factor = norm_factor(squares, given);
    }
    if (!head.exists) return;
    for (int at = lane; at < given.width; at += lanes) {
        float x = normed_element(head, at, factor);
        if (head.cosines) {
            const bool is_first = given.halves ? at < half : at % 2 == 0;
            const int apart = given.halves ? half : 1, pair = given.halves ? at % half : at / 2;
            const float other = normed_element(head, is_first ? at + apart : at - apart, factor);
            const int place = given.table_width == given.width ? at : pair;
            const float turned = other * head.sines[place];
            x = x * head.cosines[place] + (is_first ? -turned : turned);
        }
        put(x, head.made[at]);
    }
}
