// Elements of f32, f16 and bf16: as floats, and WIDTH of them at once through 16-byte accesses.
#pragma once

#include "arguments.h"
#include "numbers.h"

struct F16 { bits16 bits; };
struct BF16 { bits16 bits; };

static __device__ float number_of(float element) { return element; }
static __device__ float number_of(F16 element) { return from_half(element.bits); }
static __device__ float number_of(BF16 element) { return from_bfloat(element.bits); }
static __device__ void put(float number, float& element) { element = number; }
static __device__ void put(float number, F16& element) { element.bits = to_half(number); }
static __device__ void put(float number, BF16& element) { element.bits = to_bfloat(number); }

// `number` as it is once it was stored.
template <typename T> static __device__ float rounded(float number) {
    T element;
    put(number, element);
    return number_of(element);
}

// SIZE neighbouring elements as they lie in memory.
template <typename T, int SIZE> struct alignas(SIZE == 1 ? alignof(T) : 16) Pack { T at[SIZE]; };

// Both reads go through the cache for constants. A stream is read once and gets no place in the first
// cache, so that modulations and biases, which every row reads, keep theirs.
#ifdef __CUDACC__
#define READ_16(NAME, KIND)                                                                      \
    static __device__ void NAME(unsigned* words, const void* from) {                            \
        asm("ld.global.nc" KIND ".v4.u32 {%0, %1, %2, %3}, [%4];"                               \
            : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3]) : "l"(from));      \
    }
READ_16(read_shared, "")
READ_16(read_stream, ".L1::no_allocate")
static __device__ void write_16(void* to, const unsigned* words) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]) : "memory");
}
#else
#define COPY_16(NAME, TO, FROM)                                                                  \
    static void NAME(TO, FROM) { __builtin_memcpy(to, __builtin_assume_aligned(from, 16), 16); }
COPY_16(read_shared, unsigned* to, const void* from)
COPY_16(read_stream, unsigned* to, const void* from)
COPY_16(write_16, void* to, const unsigned* from)
#endif

template <typename T, int SIZE>
static __device__ Pack<T, SIZE> pack_of_stream(const T* from) {
    Pack<T, SIZE> pack;
    if constexpr (SIZE == 1) pack.at[0] = *from;
    else for (int i = 0; i < SIZE * (int)sizeof(T) / 16; ++i)
        read_stream((unsigned*)&pack + 4 * i, (const char*)from + 16 * i);
    return pack;
}

template <typename T, int SIZE>
static __device__ void unpack(const Pack<T, SIZE>& pack, float (&numbers)[SIZE]) {
    for (int i = 0; i < SIZE; ++i) numbers[i] = number_of(pack.at[i]);
}

template <typename T, int SIZE>
static __device__ void read_stream(const T* from, float (&numbers)[SIZE]) {
    unpack(pack_of_stream<T, SIZE>(from), numbers);
}

// What many rows read.
template <typename T, int SIZE>
static __device__ void read_shared(const T* from, float (&numbers)[SIZE]) {
    Pack<T, SIZE> pack;
    if constexpr (SIZE == 1) pack.at[0] = *from;
    else for (int i = 0; i < SIZE * (int)sizeof(T) / 16; ++i)
        read_shared((unsigned*)&pack + 4 * i, (const char*)from + 16 * i);
    unpack(pack, numbers);
}

template <typename T, int SIZE>
static __device__ void write(const float (&numbers)[SIZE], T* to) {
    Pack<T, SIZE> pack;
    for (int i = 0; i < SIZE; ++i) put(numbers[i], pack.at[i]);
    if constexpr (SIZE == 1) *to = pack.at[0];
    else for (int i = 0; i < SIZE * (int)sizeof(T) / 16; ++i)
        write_16((char*)to + 16 * i, (const unsigned*)&pack + 4 * i);
}

// The sum over `lanes` neighbouring threads of a warp, a power of two; each of them gets it.
static __device__ float sum_of_lanes(float number, int lanes) {
    for (int apart = lanes / 2; apart; apart /= 2)
        number += __shfl_xor_sync(0xFFFFFFFF, number, apart);
    return number;
}

// The sum over a block of whole warps; each thread gets it.
static __device__ float sum_of_block(float number) {
    __shared__ float of_warps[32];
    number = sum_of_lanes(number, 32);
    __syncthreads(); // Until then the sum before is read.
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = number;
    __syncthreads();
    float total = 0;
    for (int warp = 0; warp < blockDim.x / 32; ++warp) total += of_warps[warp];
    return total;
}
