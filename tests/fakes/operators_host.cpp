// The kernels of our operators for ONNX Runtime, of the very source, on the host.
#include "kernels_host.h"

#include <cstdio>
#include <string>

#include "operators.cu"
#include "operators_bf16.cu"

#define ENTRY(NAME, ARGUMENTS) \
    {#NAME, sizeof(ARGUMENTS), [](const void* given) { NAME(*(const ARGUMENTS*)given); }},
#define ENTRIES(DTYPE)                                   \
    ENTRY(gated_sum_norm_##DTYPE##_packs, GatedSumNorm)        \
    ENTRY(gated_sum_norm_##DTYPE##_elements, GatedSumNorm)     \
    ENTRY(rotated_heads_##DTYPE##_packs, RotatedHeads)         \
    ENTRY(rotated_heads_##DTYPE##_elements, RotatedHeads)      \
    ENTRY(gated_activation_##DTYPE##_packs, GatedActivation)   \
    ENTRY(gated_activation_##DTYPE##_elements, GatedActivation)

static const HostKernel kernels[] = {ENTRIES(f32) ENTRIES(f16) ENTRIES(bf16)};

static const HostKernel* host_kernel(const char* name) {
    for (const HostKernel& each : kernels)
        if (!strcmp(each.name, name)) return &each;
    return nullptr;
}

// The driver, as the library of operators sees it.
extern "C" {
#include "driver.h"

const char* last_kernel;

int driver_has_context(void) { return 1; }

int driver_find(int, const char* name, Functions* found, char* reason, size_t size) {
    const std::string packs = std::string(name) + "_packs", elements = std::string(name) + "_elements";
    const HostKernel *fast = host_kernel(packs.c_str()), *general = host_kernel(elements.c_str());
    snprintf(reason, size, "no kernel %s", name);
    *found = {(void*)found, (void*)fast, (void*)general};
    return fast && general ? 0 : -1;
}

int driver_launch(const Functions*, void* function, const unsigned grid[3], unsigned threads,
                  void* arguments, void*, char*, size_t) {
    last_kernel = ((const HostKernel*)function)->name;
    host_launch(last_kernel, grid, threads, arguments);
    return 0;
}
}
