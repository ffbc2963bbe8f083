/* libcublas.so.13 and libcublasLt.so.13 of the rehearsal. They carry the runtime within themselves:
   what fails in them is no last error of anybody's copy. */
#include "device.h"

#include <stdlib.h>
#include <string.h>

enum { EXECUTION_FAILED = 13 };
typedef struct { Stream *stream; } Handle;
typedef struct { unsigned long long algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; } Heuristic;

static int made(void **out) { *out = calloc(1, 512); return SUCCESS; }
static int product(Stream *stream, const char *name) {
    return device_kernel(stream, name) ? EXECUTION_FAILED : SUCCESS;
}

int cublasCreate_v2(Handle **handle) { return made((void **)handle); }
int cublasDestroy_v2(Handle *handle) { free(handle); return SUCCESS; }
int cublasSetStream_v2(Handle *handle, Stream *stream) { handle->stream = stream; return SUCCESS; }
int cublasSetMathMode(Handle *handle, int mode) { return SUCCESS; }
int cublasGetMathMode(Handle *handle, int *mode) { *mode = 0; return SUCCESS; }
const char *cublasGetStatusName(int status) { return "CUBLAS_STATUS"; }
const char *cublasGetStatusString(int status) { return "of the rehearsal"; }

#define PRODUCT(name) int name(Handle *handle) { return product(handle->stream, #name); }
PRODUCT(cublasDgeam)
PRODUCT(cublasDgemmBatched)
PRODUCT(cublasDgemmStridedBatched)
PRODUCT(cublasDgemm_v2)
PRODUCT(cublasDgetrfBatched)
PRODUCT(cublasDgetriBatched)
PRODUCT(cublasGemmBatchedEx)
PRODUCT(cublasGemmEx)
PRODUCT(cublasGemmStridedBatchedEx)
PRODUCT(cublasScopy_v2)
PRODUCT(cublasSgeam)
PRODUCT(cublasSgemmBatched)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasSgemm_v2)
PRODUCT(cublasSgetrfBatched)
PRODUCT(cublasSgetriBatched)
PRODUCT(cublasSscal_v2)

#define MADE(name) int name(void **out) { return made(out); }
MADE(cublasLtCreate)
MADE(cublasLtMatmulDescCreate)
MADE(cublasLtMatmulPreferenceCreate)
MADE(cublasLtMatrixLayoutCreate)
MADE(cublasLtMatrixTransformDescCreate)

#define ENDED(name) int name(void *handle) { free(handle); return SUCCESS; }
ENDED(cublasLtDestroy)
ENDED(cublasLtMatmulDescDestroy)
ENDED(cublasLtMatmulPreferenceDestroy)
ENDED(cublasLtMatrixLayoutDestroy)
ENDED(cublasLtMatrixTransformDescDestroy)

#define TAKEN(name) int name(void) { return SUCCESS; }
TAKEN(cublasLtMatmulAlgoConfigSetAttribute)
TAKEN(cublasLtMatmulAlgoInit)
TAKEN(cublasLtMatmulDescSetAttribute)
TAKEN(cublasLtMatmulPreferenceSetAttribute)
TAKEN(cublasLtMatrixLayoutSetAttribute)

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *of, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, Heuristic *out, int *found) {
    memset(out, 0, wanted * sizeof *out);
    *found = 1;
    return SUCCESS;
}

int cublasLtMatmul(void *handle, void *of, void *alpha, void *a, void *a_layout, void *b, void *b_layout, void *beta,
                   void *c, void *c_layout, void *d, void *d_layout, void *algorithm, void *workspace, size_t size,
                   Stream *stream) {
    return product(stream, __func__);
}

int cublasLtMatrixTransform(void *handle, void *of, void *alpha, void *a, void *a_layout, void *beta, void *b,
                            void *b_layout, void *c, void *c_layout, Stream *stream) {
    return product(stream, __func__);
}
