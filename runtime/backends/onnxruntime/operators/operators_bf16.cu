// Our operators in bf16, for the GPUs that have instructions for it: compute capability 8.0 and later.
#include "kernels.cuh"

KERNELS(bf16, BF16)
