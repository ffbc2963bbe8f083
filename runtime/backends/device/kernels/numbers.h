// Numbers of 16 bits as floats and back, for all our kernels. Compiled for the host, where tests run
// the kernels, fp16 is the compiler's own: STORED_AS_HALF then stands for the two functions.
#pragma once

typedef unsigned short bits16;

#ifndef STORED_AS_HALF
static __device__ float from_half(bits16 half) {
    float number;
    asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(half));
    return number;
}

static __device__ bits16 to_half(float number) {
    bits16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(number));
    return half;
}
#endif

// bf16 is the upper half of a float.
static __device__ float from_bfloat(bits16 bfloat) {
    union { unsigned bits; float number; } both;
    both.bits = (unsigned)bfloat << 16;
    return both.number;
}

#if __CUDA_ARCH__ >= 800
static __device__ bits16 to_bfloat(float number) {
    bits16 bfloat;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bfloat) : "f"(number));
    return bfloat;
}
#else // Turing has no such instruction.
static __device__ bits16 to_bfloat(float number) {
    union { float number; unsigned bits; } both;
    both.number = number;
    // Rounded as a number, a NaN of a GPU, 0x7FFFFFFF, would come out as -0.
    if (number != number) return 0x7FFF;
    return (bits16)((both.bits + 0x7FFF + (both.bits >> 16 & 1)) >> 16);
}
#endif
