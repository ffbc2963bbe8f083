// Heads of one or two streams of tokens, behind each other: with a bias, normed and rotated, each of
// these if it is asked for. A block has one token; 2^log_lanes neighbouring threads have one of its
// heads at a time, and all threads go through as many heads, since the sums of a warp need them.
#pragma once

#include "elements.cuh"

// A token's heads.
template <typename T> struct Token {
    const T *read, *bias, *weight;
    const float *cosines, *sines;
    T* made;

    __device__ Token(const RotatedHeads& given) {
        const long long evaluation = blockIdx.z;
        const int tokens = gridDim.x, token = blockIdx.x;
        const bool first = token < given.first_tokens;
        const long long place =
            first ? evaluation * given.first_tokens + token
                  : evaluation * (tokens - given.first_tokens) + token - given.first_tokens;
        const long long channels = (long long)given.heads * given.width;
        read = (const T*)(first ? given.first : given.second) + place * channels;
        bias = (const T*)(first ? given.first_bias : given.second_bias);
        weight = (const T*)(first ? given.first_weight : given.second_weight);
        const long long table =
            evaluation * given.table_stride + (long long)token * given.table_width;
        cosines = given.cosines ? given.cosines + table : nullptr;
        sines = given.cosines ? given.sines + table : nullptr;
        made = (T*)given.output + (evaluation * tokens + token) * channels;
    }
};

// The factor of a head's norm from one thread's share of the squares.
static __device__ float norm_factor(float squares, const RotatedHeads& given) {
    return rsqrtf(sum_of_lanes(squares, 1 << given.log_lanes) / given.width + given.epsilon);
}

// The fast path: a thread has two packs of a head, half a head apart, so that both members of a pair
// are its own, be they neighbours or halves apart. `width` is a multiple of 2 * WIDTH.

// A table's number for each element of both packs; where `for_pairs`, the table has one for a pair.
static __device__ void read_table(const float* table, const int (&at)[2], bool for_pairs,
                                  bool halves, float (&numbers)[2][WIDTH]) {
    if (!for_pairs) {
        for (int k = 0; k < 2; ++k) read_shared(table + at[k], numbers[k]);
    } else if (halves) {
        for (int k = 0; k < 2; ++k) read_shared(table + at[0], numbers[k]);
    } else {
        float pairs[WIDTH / 2];
        for (int k = 0; k < 2; ++k) {
            read_shared(table + at[k] / 2, pairs);
            for (int i = 0; i < WIDTH; ++i) numbers[k][i] = pairs[i / 2];
        }
    }
}

template <bool HALVES>
static __device__ void turn(const float (&cosines)[2][WIDTH], const float (&sines)[2][WIDTH],
                            float (&x)[2][WIDTH]) {
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
    const Token<T> token(given);
    const int pack = (threadIdx.x & (1 << given.log_lanes) - 1) * WIDTH;
    const int at[2] = {pack, pack + given.width / 2};
    const bool has_packs = pack < given.width / 2;
    float cosines[2][WIDTH], sines[2][WIDTH];
    if (token.cosines && has_packs) {
        const bool for_pairs = given.table_width != given.width;
        read_table(token.cosines, at, for_pairs, given.halves, cosines);
        read_table(token.sines, at, for_pairs, given.halves, sines);
    }
    const int at_once = blockDim.x >> given.log_lanes;
#pragma unroll 1
    for (int first = 0; first < given.heads; first += at_once) {
        const int head = first + (threadIdx.x >> given.log_lanes), start = head * given.width;
        const bool here = has_packs && head < given.heads;
        float x[2][WIDTH] = {}, other[2][WIDTH];
        if (here) {
            for (int k = 0; k < 2; ++k) read_stream(token.read + start + at[k], x[k]);
            if (token.bias) {
                for (int k = 0; k < 2; ++k) read_shared(token.bias + start + at[k], other[k]);
                for (int k = 0; k < 2; ++k)
                    for (int i = 0; i < WIDTH; ++i) x[k][i] += other[k][i];
            }
        }
        if (token.weight) {
            float squares = 0;
            for (int k = 0; k < 2; ++k)
                for (int i = 0; i < WIDTH; ++i) squares += x[k][i] * x[k][i];
            const float factor = norm_factor(squares, given);
            if (here) {
                for (int k = 0; k < 2; ++k) read_shared(token.weight + at[k], other[k]);
                for (int k = 0; k < 2; ++k)
                    for (int i = 0; i < WIDTH; ++i) x[k][i] *= factor * other[k][i];
            }
        }
        if (!here) continue;
        if (token.cosines && given.halves) turn<true>(cosines, sines, x);
        else if (token.cosines) turn<false>(cosines, sines, x);
        for (int k = 0; k < 2; ++k) write(x[k], token.made + start + at[k]);
    }
}

// The general path: a thread takes an element at a time, and reads the other member of its pair too.

template <typename T> static __device__ float element_of(const Token<T>& token, int at) {
    return number_of(token.read[at]) + (token.bias ? number_of(token.bias[at]) : 0);
}

template <typename T>
static __device__ float normed_element(const Token<T>& token, int start, int at, float factor) {
    const float x = element_of(token, start + at);
    return token.weight ? x * (factor * number_of(token.weight[at])) : x;
}

template <typename T> static __device__ void rotated_heads_of_elements(const RotatedHeads& given) {
    const Token<T> token(given);
    const int lanes = 1 << given.log_lanes, lane = threadIdx.x & lanes - 1;
    const int width = given.width, half = width / 2, at_once = blockDim.x >> given.log_lanes;
    for (int first = 0; first < given.heads; first += at_once) {
        const int head = first + (threadIdx.x >> given.log_lanes), start = head * width;
        const int end = head < given.heads ? width : 0;
        float factor = 1;
        if (token.weight) {
            float squares = 0;
            for (int at = lane; at < end; at += lanes) {
                const float x = element_of(token, start + at);
                squares += x * x;
            }
            factor = norm_factor(squares, given);
        }
        for (int at = lane; at < end; at += lanes) {
            float x = normed_element(token, start, at, factor);
            if (token.cosines) {
                const bool is_first = given.halves ? at < half : at % 2 == 0;
                const int apart = given.halves ? half : 1, pair = given.halves ? at % half : at / 2;
                const int partner = is_first ? at + apart : at - apart;
                const float other = normed_element(token, start, partner, factor);
                const int place = given.table_width == width ? at : pair;
                const float turned = other * token.sines[place];
                x = x * token.cosines[place] + (is_first ? -turned : turned);
            }
            put(x, token.made[start + at]);
        }
    }
}
