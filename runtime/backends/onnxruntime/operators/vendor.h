/* The part of ONNX Runtime's C API that custom operators need, declared by its place in the API's
   tables, to which the vendor only appends. Version 17 has all of it, and every later runtime gives it.
   https://github.com/microsoft/onnxruntime/blob/v1.17.0/include/onnxruntime/core/session/onnxruntime_c_api.h */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { API_VERSION = 17 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtShape OrtShape; /* OrtTensorTypeAndShapeInfo */
typedef struct OrtDomain OrtDomain;
typedef struct OrtOptions OrtOptions;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef void (*const *OrtApi)(void);

typedef struct {
    OrtApi (*get_api)(uint32_t version);
    const char *(*get_version)(void);
} OrtApiBase;

enum { FAILED = 1, INVALID_ARGUMENT = 2 };
enum { FLOAT32 = 1, FLOAT16 = 10, BFLOAT16 = 16 };
enum { REQUIRED = 0, OPTIONAL = 1 };
enum { DEFAULT_MEMORY = 0 };

/* Functions of OrtApi: what they return, their place, and what they take. */
#define PLACED(RETURNED, PLACE, ...) ((RETURNED (*)(__VA_ARGS__))api[PLACE])
#define CREATE_STATUS PLACED(OrtStatus *, 0, int code, const char *message)
#define CREATE_DOMAIN PLACED(OrtStatus *, 26, const char *name, OrtDomain **made)
#define ADD_OPERATOR PLACED(OrtStatus *, 27, OrtDomain *, const void *custom_operator)
#define ADD_DOMAIN PLACED(OrtStatus *, 28, OrtOptions *, OrtDomain *)
#define DATA_OF PLACED(OrtStatus *, 51, OrtValue *, void **address)
#define RANK_OF PLACED(OrtStatus *, 61, const OrtShape *, size_t *rank)
#define EXTENTS_OF PLACED(OrtStatus *, 62, const OrtShape *, int64_t *extents, size_t rank)
#define SHAPE_OF PLACED(OrtStatus *, 65, const OrtValue *, OrtShape **shape)
#define FLOAT_OF PLACED(OrtStatus *, 85, const OrtKernelInfo *, const char *name, float *number)
#define INTEGER_OF PLACED(OrtStatus *, 86, const OrtKernelInfo *, const char *name, int64_t *number)
#define STRING_OF PLACED(OrtStatus *, 87, const OrtKernelInfo *, const char *name, char *text, size_t *size)
#define INPUT_COUNT PLACED(OrtStatus *, 88, const OrtKernelContext *, size_t *count)
#define INPUT_OF PLACED(OrtStatus *, 90, const OrtKernelContext *, size_t index, const OrtValue **input)
#define OUTPUT_OF PLACED(OrtStatus *, 91, OrtKernelContext *, size_t index, const int64_t *extents, size_t rank, OrtValue **output)
#define RELEASE_STATUS PLACED(void, 93, OrtStatus *)
#define RELEASE_SHAPE PLACED(void, 99, OrtShape *)
#define STREAM_OF PLACED(OrtStatus *, 193, const OrtKernelContext *, void **stream)
#define NODE_NAME_OF PLACED(OrtStatus *, 244, const OrtKernelInfo *, char *name, size_t *size)

/* OrtCustomOp of version 17. */
typedef struct CustomOperator CustomOperator;
struct CustomOperator {
    uint32_t version;
    void *(*create_kernel)(const CustomOperator *, OrtApi, const OrtKernelInfo *);
    const char *(*name)(const CustomOperator *);
    const char *(*provider)(const CustomOperator *);
    int (*input_type)(const CustomOperator *, size_t index);
    size_t (*input_count)(const CustomOperator *);
    int (*output_type)(const CustomOperator *, size_t index);
    size_t (*output_count)(const CustomOperator *);
    void (*compute)(void *kernel, OrtKernelContext *);
    void (*destroy)(void *kernel);
    int (*input_characteristic)(const CustomOperator *, size_t index);
    int (*output_characteristic)(const CustomOperator *, size_t index);
    int (*input_memory)(const CustomOperator *, size_t index);
    int (*variadic_input_arity)(const CustomOperator *);
    int (*variadic_input_homogeneity)(const CustomOperator *);
    int (*variadic_output_arity)(const CustomOperator *);
    int (*variadic_output_homogeneity)(const CustomOperator *);
    OrtStatus *(*create)(const CustomOperator *, OrtApi, const OrtKernelInfo *, void **kernel);
    OrtStatus *(*run)(void *kernel, OrtKernelContext *);
    OrtStatus *(*infer_shapes)(const CustomOperator *, void *);
    int (*start_version)(const CustomOperator *);
    int (*end_version)(const CustomOperator *);
};
