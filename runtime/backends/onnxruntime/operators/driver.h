/* CUDA's driver: our kernels' functions, and launches of them. */
#pragma once
#include <stddef.h>

typedef struct {
    void *context, *packs, *elements; /* The context, and a kernel's function for either path. */
} Functions;

/* 1 where a context of CUDA is current on this thread. */
int driver_has_context(void);

/* The two modules of kernels; GPUs before compute capability 8.0 cannot load that of bf16. */
enum { MODULE_F32_F16, MODULE_BF16, MODULES };

/* Finds the functions NAME_packs and NAME_elements of a module in the current context, where the
   module is loaded if this is the first time. Returns 0, or -1 with the reason in `reason`. */
int driver_find(int module, const char *name, Functions *found, char *reason, size_t size);

/* Enqueues `function` with the struct of arguments. Returns 0, or -1 with the reason in `reason`. */
int driver_launch(const Functions *functions, void *function, const unsigned grid[3], unsigned threads,
                  void *arguments, void *stream, char *reason, size_t size);
