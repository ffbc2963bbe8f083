/* Our operators: each reads its attributes once, and launches one kernel a run. */
#pragma once
#include "call.h"

/* The attributes of a node. Without the attribute the number stays as it is. Strings of at most 15
   letters; an attribute of more is kept as "?". */
void read_integer(OrtApi api, const OrtKernelInfo *info, const char *name, int *number);
void read_float(OrtApi api, const OrtKernelInfo *info, const char *name, float *number);
void read_string(OrtApi api, const OrtKernelInfo *info, const char *name, char text[16]);

extern const Operator gated_sum_norm, rotated_heads, gated_activation;
