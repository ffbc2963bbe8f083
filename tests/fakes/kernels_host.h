// CUDA's kernels on the host: a block's threads are fibers of one thread, which take turns. Each runs
// up to the next barrier or shuffle, so what a thread reads before its barrier is not there yet.
#pragma once
#include <cmath>
#include <cstring>
#include <ucontext.h>
#include <vector>

struct Index { unsigned x, y, z; };
static Index blockIdx, threadIdx, blockDim, gridDim;
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)

#define STORED_AS_HALF
static float from_half(unsigned short half) { return (float)*(_Float16*)&half; }
static unsigned short to_half(float number) {
    _Float16 half = (_Float16)number;
    return *(unsigned short*)&half;
}
static float rsqrtf(float number) { return 1 / sqrtf(number); }

struct Fiber { ucontext_t context; std::vector<char> stack; bool ended; };
static std::vector<Fiber> fibers;
static std::vector<float> shuffled;
static ucontext_t scheduler;
static void (*kernel)(const void*);
static const void* kernel_arguments;

static void __syncthreads() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

static float __shfl_xor_sync(unsigned, float number, int apart) {
    shuffled[threadIdx.x] = number;
    __syncthreads();
    number = shuffled[threadIdx.x ^ apart];
    __syncthreads();
    return number;
}

static void fiber() {
    kernel(kernel_arguments);
    fibers[threadIdx.x].ended = true;
}

static void run_block() {
    for (unsigned i = 0; i < blockDim.x; ++i) {
        fibers[i].ended = false;
        getcontext(&fibers[i].context);
        fibers[i].context.uc_stack.ss_sp = fibers[i].stack.data();
        fibers[i].context.uc_stack.ss_size = fibers[i].stack.size();
        fibers[i].context.uc_link = &scheduler;
        makecontext(&fibers[i].context, fiber, 0);
    }
    for (bool running = true; running;) {
        running = false;
        for (unsigned i = 0; i < blockDim.x; ++i)
            if (!fibers[i].ended) {
                threadIdx = {i, 0, 0};
                swapcontext(&scheduler, &fibers[i].context);
                running |= !fibers[i].ended;
            }
    }
}

struct HostKernel { const char* name; size_t arguments; void (*run)(const void*); };
static const HostKernel* host_kernel(const char* name);

// The bytes of a kernel's arguments; 0 for a name that is none.
extern "C" size_t host_arguments(const char* name) {
    const HostKernel* found = host_kernel(name);
    return found ? found->arguments : 0;
}

extern "C" void host_launch(const char* name, const unsigned* grid, unsigned threads, const void* arguments) {
    kernel = host_kernel(name)->run;
    kernel_arguments = arguments;
    blockDim = {threads, 1, 1};
    while (fibers.size() < threads) fibers.push_back({{}, std::vector<char>(32 << 10), false});
    shuffled.resize(threads);
    gridDim = {grid[0], grid[1], grid[2]};
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                run_block();
            }
}
