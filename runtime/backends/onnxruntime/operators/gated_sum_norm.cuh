// sum = x + gate * f(branch + bias), and normed = norm(sum) * weight * (1 + scale) + shift: one block
// a row. A thread keeps KEPT packs of SIZE elements in registers between the passes; what a longer row
// has more is read and computed again in each of them.
#pragma once

#include "elements.cuh"

// Of one row; modulations are of the row's evaluation.
template <typename T> struct Row {
    const T *x, *branch, *bias, *branch_weight, *gate, *weight, *scale, *shift;
    T *normed, *sum;
    float branch_factor;
    bool gate_tanh;

    __device__ Row(const GatedSumNorm& given) {
        const long long evaluation = blockIdx.z;
        const long long start = (evaluation * gridDim.x + blockIdx.x) * given.channels;
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
        branch_factor = 1;
        gate_tanh = given.gate_tanh;
    }
};

// PACKS packs of one thread, `step` elements apart. Behind the row's end the last pack is read once
// more, so that no branch stands between reads, and is left out of sums and writes.
template <typename T, int SIZE, int PACKS> struct Packs {
    float numbers[PACKS][SIZE];
    Pack<T, SIZE> residual[PACKS]; // The sum as it is stored, once that is computed.
    int first, step, channels;

    __device__ Packs(int first, int step, int channels)
        : first(first), step(step), channels(channels) {}

    __device__ bool has(int k) const { return first + k * step < channels; }
    __device__ int at(int k) const { return has(k) ? first + k * step : channels - SIZE; }

    // function(number, its number of a vector), where the vector is there.
    template <typename Function> __device__ void with(const T* vector, Function function) {
        if (!vector) return;
        float other[PACKS][SIZE];
        for (int k = 0; k < PACKS; ++k) read_shared(vector + at(k), other[k]);
        for (int k = 0; k < PACKS; ++k)
            for (int i = 0; i < SIZE; ++i) function(numbers[k][i], other[k][i]);
    }

    // branch + bias.
    __device__ void read(const Row<T>& row) {
        for (int k = 0; k < PACKS; ++k) residual[k] = pack_of_stream<T, SIZE>(row.x + at(k));
        if (row.branch)
            for (int k = 0; k < PACKS; ++k) read_stream(row.branch + at(k), numbers[k]);
        with(row.bias, [](float& number, float bias) { number += bias; });
    }

    // In their places the sum, as the norm reads it.
    __device__ void add(const Row<T>& row) {
        const float factor = row.branch_factor;
        with(row.branch_weight, [=](float& number, float weight) { number *= factor * weight; });
        if (row.gate_tanh) with(row.gate, [](float& number, float gate) { number *= tanh_for(gate, T()); });
        else with(row.gate, [](float& number, float gate) { number *= gate; });
        for (int k = 0; k < PACKS; ++k) {
            float other[SIZE];
            unpack(residual[k], other);
            if (row.branch) {
                for (int i = 0; i < SIZE; ++i) other[i] += numbers[k][i];
                residual[k] = packed<T>(other);
            }
            unpack(residual[k], numbers[k]);
        }
    }

    __device__ void read_and_add(const Row<T>& row) {
        read(row);
        add(row);
    }

    __device__ void norm(const Row<T>& row, float mean, float factor) {
        const float offset = -mean * factor;
        for (int k = 0; k < PACKS; ++k)
            for (int i = 0; i < SIZE; ++i) numbers[k][i] = numbers[k][i] * factor + offset;
        with(row.weight, [](float& number, float weight) { number *= weight; });
        with(row.scale, [](float& number, float scale) { number += number * scale; });
        with(row.shift, [](float& number, float shift) { number += shift; });
        for (int k = 0; k < PACKS; ++k)
            if (has(k)) write(numbers[k], row.normed + at(k));
    }

    __device__ void write_sum(const Row<T>& row) const {
        if (!row.sum) return;
        for (int k = 0; k < PACKS; ++k)
            if (has(k)) write(residual[k], row.sum + at(k));
    }

    __device__ float sum() const {
        float sum = 0;
        for (int k = 0; k < PACKS; ++k) {
            float of_pack = 0;
            for (int i = 0; i < SIZE; ++i) of_pack += numbers[k][i];
            sum += has(k) ? of_pack : 0;
        }
        return sum;
    }

    __device__ float squares(float mean) const {
        float sum = 0;
        for (int k = 0; k < PACKS; ++k) {
            float of_pack = 0;
            for (int i = 0; i < SIZE; ++i)
                of_pack += (numbers[k][i] - mean) * (numbers[k][i] - mean);
            sum += has(k) ? of_pack : 0;
        }
        return sum;
    }
};

template <typename T, int SIZE, int KEPT>
static __device__ void gated_sum_norm(const GatedSumNorm& given) {
    const int channels = given.channels, step = blockDim.x * SIZE, first = threadIdx.x * SIZE;
    Row<T> row(given);
    Packs<T, SIZE, KEPT> kept(first, step, channels);
    Packs<T, SIZE, 1> other(0, step, channels);
#define EACH_OTHER                                                                               \
    _Pragma("unroll 1") for (other.first = first + KEPT * step; other.has(0); other.first += step)

    kept.read(row);
    if (row.branch_weight) {
        float squares = kept.squares(0);
        EACH_OTHER {
            other.read(row);
            squares += other.squares(0);
        }
        row.branch_factor = rsqrtf(sum_of_block(squares) / channels + given.branch_epsilon);
    }
    kept.add(row);
    kept.write_sum(row);
    float total = kept.sum();
    EACH_OTHER {
        other.read_and_add(row);
        other.write_sum(row);
        total += other.sum();
    }
    if (!row.normed) return;
    const float mean = given.layer ? sum_of_block(total) / channels : 0;
    float squares = kept.squares(mean);
    EACH_OTHER {
        other.read_and_add(row);
        squares += other.squares(mean);
    }
    const float factor = rsqrtf(sum_of_block(squares) / channels + given.epsilon);
    kept.norm(row, mean, factor);
    EACH_OTHER {
        other.read_and_add(row);
        other.norm(row, mean, factor);
    }
#undef EACH_OTHER
}
