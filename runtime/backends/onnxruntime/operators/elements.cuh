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

// SIZE neighbouring elements as they lie in memory.
template <typename T, int SIZE> struct Pack { unsigned words[SIZE * sizeof(T) / 4]; };
template <typename T> struct Pack<T, 1> { T element; };

// Two elements and the word that they lie in.
static __device__ float of_bits(unsigned bits) {
    union { unsigned bits; float number; } both;
    both.bits = bits;
    return both.number;
}
static __device__ void split(unsigned word, F16, float& low, float& high) {
    low = from_half((bits16)word);
    high = from_half((bits16)(word >> 16));
}
static __device__ void split(unsigned word, BF16, float& low, float& high) {
    low = of_bits(word << 16);
    high = of_bits(word & 0xFFFF0000);
}
static __device__ unsigned joined(float low, float high, F16) {
    return to_half(low) | (unsigned)to_half(high) << 16;
}
static __device__ unsigned joined(float low, float high, BF16) {
#if __CUDA_ARCH__ >= 800
    unsigned word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#else
    return to_bfloat(low) | (unsigned)to_bfloat(high) << 16;
#endif
}

template <typename T, int SIZE>
static __device__ void unpack(const Pack<T, SIZE>& pack, float (&numbers)[SIZE]) {
    if constexpr (SIZE == 1) numbers[0] = number_of(pack.element);
    else if constexpr (sizeof(T) == 4)
        for (int i = 0; i < SIZE; ++i) numbers[i] = of_bits(pack.words[i]);
    else
        for (int i = 0; i < SIZE; i += 2)
            split(pack.words[i / 2], T(), numbers[i], numbers[i + 1]);
}

template <typename T, int SIZE>
static __device__ Pack<T, SIZE> packed(const float (&numbers)[SIZE]) {
    Pack<T, SIZE> pack;
    if constexpr (SIZE == 1) put(numbers[0], pack.element);
    else if constexpr (sizeof(T) == 4) memcpy(pack.words, numbers, sizeof numbers);
    else
        for (int i = 0; i < SIZE; i += 2)
            pack.words[i / 2] = joined(numbers[i], numbers[i + 1], T());
    return pack;
}

// Both reads go through the cache for constants. A stream is read once and gets no place in the first
// cache, so that modulations and biases, which every row reads, keep theirs. They are volatile since
// the compiler takes other assembly for arithmetic, and moves it out of a loop in front of the question
// whether there is anything at its address.
#ifdef __CUDACC__
#define READ_16(NAME, KIND)                                                                      \
    static __device__ void NAME(unsigned* words, const void* from) {                            \
        asm volatile("ld.global.nc" KIND ".v4.u32 {%0, %1, %2, %3}, [%4];"                               \
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
    static void NAME(TO, FROM) { memcpy(to, __builtin_assume_aligned(from, 16), 16); }
COPY_16(read_shared, unsigned* to, const void* from)
COPY_16(read_stream, unsigned* to, const void* from)
COPY_16(write_16, void* to, const unsigned* from)
#endif

template <typename T, int SIZE>
static __device__ Pack<T, SIZE> pack_of_stream(const T* from) {
    Pack<T, SIZE> pack;
    if constexpr (SIZE == 1) pack.element = *from;
    else for (int word = 0; word < sizeof pack / 4; word += 4)
        read_stream(pack.words + word, (const unsigned*)from + word);
    return pack;
}

template <typename T, int SIZE>
static __device__ void read_stream(const T* from, float (&numbers)[SIZE]) {
    unpack(pack_of_stream<T, SIZE>(from), numbers);
}

// For what many rows read.
template <typename T, int SIZE>
static __device__ void read_shared(const T* from, float (&numbers)[SIZE]) {
    Pack<T, SIZE> pack;
    if constexpr (SIZE == 1) pack.element = *from;
    else for (int word = 0; word < sizeof pack / 4; word += 4)
        read_shared(pack.words + word, (const unsigned*)from + word);
    unpack(pack, numbers);
}

template <typename T, int SIZE>
static __device__ void write(const Pack<T, SIZE>& pack, T* to) {
    if constexpr (SIZE == 1) *to = pack.element;
    else for (int word = 0; word < sizeof pack / 4; word += 4)
        write_16((unsigned*)to + word, pack.words + word);
}

template <typename T, int SIZE>
static __device__ void write(const float (&numbers)[SIZE], T* to) {
    write(packed<T>(numbers), to);
}

// e^x, and a / b, to some 2^-21 of them and with no steps for what is subnormal.
#ifdef __CUDACC__
static __device__ float fast_exp(float x) {
    float made;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(made) : "f"(x * 1.4426950f));
    return made;
}
static __device__ float fast_quotient(float a, float b) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b));
    return a * inverse;
}
#else
static float fast_exp(float x) { return expf(x); }
static float fast_quotient(float a, float b) { return a / b; }
#endif

// Without a branch for each element. Below 0.6 by a polynomial: the quotient loses its digits there.
static __device__ float tanh_of(float x) {
    const float square = x * x;
    float small = 1.57394409e-2f;
    small = small * square - 5.23025999e-2f;
    small = small * square + 1.33152470e-1f;
    small = small * square - 3.33327681e-1f;
    small = small * square * x + x;
    const float large = 1 - fast_quotient(2, 1 + fast_exp(2 * fabsf(x)));
    return fabsf(x) < 0.6f ? small : copysignf(large, x);
}

// The same for a number that comes out of T. One instruction for bf16: within 2^-11 of the tangent, where
// its argument is a number that was rounded to 2^-9.
template <typename T> static __device__ float tanh_for(float x, T) { return tanh_of(x); }
#if __CUDA_ARCH__ >= 800
static __device__ float tanh_for(float x, BF16) {
    float made;
    asm("tanh.approx.f32 %0, %1;" : "=f"(made) : "f"(x));
    return made;
}
#endif

// The sum over `lanes` neighbouring threads of a warp, a power of two; each of them gets it.
static __device__ float sum_of_lanes(float number, int lanes) {
    for (int apart = lanes / 2; apart; apart /= 2)
        number += __shfl_xor_sync(0xFFFFFFFF, number, apart);
    return number;
}

// The sum over a block of up to 8 whole warps; each thread gets it.
static __device__ float sum_of_block(float number) {
    __shared__ float of_warps[8];
    number = sum_of_lanes(number, 32);
    __syncthreads(); // Until then the sum before is read.
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = number;
    __syncthreads();
    const int warp = threadIdx.x % 8;
    return sum_of_lanes(warp < blockDim.x / 32 ? of_warps[warp] : 0, 8);
}
