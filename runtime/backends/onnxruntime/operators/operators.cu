// Our operators in f32 and f16. What is made of this file is operators.ptx:
// python -m scripts.compile_kernels. A test compiles it for the host as well and runs it there.
#include "kernels.cuh"

KERNELS(f32, float)
KERNELS(f16, F16)
