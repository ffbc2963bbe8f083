// The kernels of our operators for ONNX Runtime, by dtype and path: `_packs` takes WIDTH elements at
// once, where widths and addresses allow 16-byte accesses, `_elements` takes anything.
#pragma once

#include "gated_activation.cuh"
#include "gated_sum_norm.cuh"
#include "rotated_heads.cuh"

#define KERNEL(NAME, ARGUMENTS, THREADS, FUNCTION)                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(const ARGUMENTS given) {          \
        FUNCTION(given);                                                                         \
    }

#define KERNELS(DTYPE, T)                                                                        \
    KERNEL(gated_sum_norm_##DTYPE##_packs, GatedSumNorm, GATED_SUM_NORM_THREADS,                 \
           (gated_sum_norm<T, WIDTH, GATED_SUM_NORM_KEPT>))                                      \
    KERNEL(gated_sum_norm_##DTYPE##_elements, GatedSumNorm, GATED_SUM_NORM_THREADS,              \
           (gated_sum_norm<T, 1, GATED_SUM_NORM_KEPT>))                                          \
    KERNEL(rotated_heads_##DTYPE##_packs, RotatedHeads, ROTATED_HEADS_THREADS,                   \
           rotated_heads_of_packs<T>)                                                            \
    KERNEL(rotated_heads_##DTYPE##_elements, RotatedHeads, ROTATED_HEADS_THREADS,                \
           rotated_heads_of_elements<T>)                                                         \
    KERNEL(gated_activation_##DTYPE##_packs, GatedActivation, GATED_ACTIVATION_THREADS,          \
           (gated_activation<T, WIDTH>))                                                         \
    KERNEL(gated_activation_##DTYPE##_elements, GatedActivation, GATED_ACTIVATION_THREADS,       \
           (gated_activation<T, 1>))
