/* CUDA's driver: our kernels' functions, and launches of them. */
#pragma once
#include <stddef.h>

typedef struct {
    void *context, *packs, *elements; /* The context, and a kernel's function for either path. */
} Functions;

/* 1 where a context of CUDA is current on this thread. */
int driver_has_context(void);

/* Finds the functions NAME_packs and NAME_elements in the current context, where our module is loaded
   if this is the first time. Returns 0, or -1 with the reason in `reason`. */
int driver_find(const char *name, Functions *found, char *reason, size_t size);

/* Enqueues `function` with the struct of arguments. Returns 0, or -1 with the reason in `reason`. */
int driver_launch(const Functions *functions, void *function, const unsigned grid[2], unsigned threads,
                  void *arguments, void *stream, char *reason, size_t size);
