/* Our operators as ONNX Runtime's CUDA provider takes them: domain `calotype`, version 1.
   https://onnxruntime.ai/docs/reference/operators/add-custom-op.html */
#include "operators.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

/* What the library was made of; a test holds it to the sources. */
EXPORTED extern const char calotype_sources[];
const char calotype_sources[] = SOURCES;

static const struct { int dtype; const char *name; } dtypes[] = {{FLOAT32, "f32"}, {FLOAT16, "f16"}, {BFLOAT16, "bf16"}};
static const Operator *const operators[] = {&gated_sum_norm, &rotated_heads, &gated_activation};
enum { DTYPES = sizeof dtypes / sizeof *dtypes, OPERATORS = sizeof operators / sizeof *operators };

/* An operator for one dtype; ONNX Runtime hands it back with every question. */
typedef struct {
    CustomOperator vendors;
    const Operator *ours;
    int dtype;
    const char *dtype_name;
} Typed;

void read_integer(OrtApi api, const OrtKernelInfo *info, const char *name, int *number) {
    int64_t found;
    OrtStatus *missing = INTEGER_OF(info, name, &found);
    if (missing) RELEASE_STATUS(missing);
    else *number = (int)found;
}

void read_float(OrtApi api, const OrtKernelInfo *info, const char *name, float *number) {
    OrtStatus *missing = FLOAT_OF(info, name, number);
    if (missing) RELEASE_STATUS(missing);
}

void read_string(OrtApi api, const OrtKernelInfo *info, const char *name, char text[16]) {
    size_t size = 16;
    OrtStatus *failed = STRING_OF(info, name, text, &size);
    if (failed) RELEASE_STATUS(failed);
    if (failed && size > 16) strcpy(text, "?");
}

static const Operator *ours(const CustomOperator *of) { return ((const Typed *)of)->ours; }
static const char *name(const CustomOperator *of) { return ours(of)->name; }
static const char *provider(const CustomOperator *of) { (void)of; return "CUDAExecutionProvider"; }
static size_t input_count(const CustomOperator *of) { return ours(of)->inputs; }
static size_t output_count(const CustomOperator *of) { return ours(of)->outputs; }
static int output_type(const CustomOperator *of, size_t index) { (void)index; return ((const Typed *)of)->dtype; }
static int output_characteristic(const CustomOperator *of, size_t index) { (void)index; return ours(of)->outputs_needed; }
static int input_memory(const CustomOperator *of, size_t index) { (void)of, (void)index; return DEFAULT_MEMORY; }
static int start_version(const CustomOperator *of) { (void)of; return 1; }
static void destroy(void *kernel) { free(kernel); }

static int input_type(const CustomOperator *of, size_t index) {
    const Operator *mine = ours(of);
    const int is_table = index >= mine->first_table && index < mine->first_table + mine->tables;
    return is_table ? FLOAT32 : ((const Typed *)of)->dtype;
}

static int input_characteristic(const CustomOperator *of, size_t index) {
    return index < ours(of)->required ? REQUIRED : OPTIONAL;
}

static OrtStatus *create(const CustomOperator *of, OrtApi api, const OrtKernelInfo *info, void **kernel) {
    const Operator *mine = ours(of);
    Node *node = calloc(1, mine->size);
    if (!node) return CREATE_STATUS(FAILED, "no memory for a kernel");
    node->of = mine;
    node->dtype = ((const Typed *)of)->dtype;
    node->api = api;
    snprintf(node->kernel, sizeof node->kernel, "%s_%s", mine->kernel, ((const Typed *)of)->dtype_name);
    size_t size = sizeof node->name;
    OrtStatus *nameless = NODE_NAME_OF(info, node->name, &size);
    if (nameless) RELEASE_STATUS(nameless);
    Call call = {.node = node};
    mine->create(node, api, info, &call);
    char reason[256];
    /* The driver compiles the kernels here, and not in a run, which may be captured. */
    if (driver_has_context() && find_kernels(node, reason, sizeof reason)) fail(&call, "%s", reason);
    if (call.status) free(node);
    else *kernel = node;
    return call.status;
}

static OrtStatus *run(void *kernel, OrtKernelContext *context) {
    Node *node = kernel;
    Call call = call_of(node, context);
    if (!call.status) node->of->run(kernel, &call);
    return call.status;
}

static Typed typed[OPERATORS * DTYPES];
static OrtDomain *domain; /* As long as the process, since sessions may outlive their options. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static OrtStatus *make_domain(OrtApi api) {
    OrtDomain *made;
    OrtStatus *status = CREATE_DOMAIN("calotype", &made);
    for (int i = 0; i < OPERATORS * DTYPES && !status; i++) {
        typed[i] = (Typed){
            .vendors = {.version = API_VERSION, .name = name, .provider = provider, .input_type = input_type,
                        .input_count = input_count, .output_type = output_type, .output_count = output_count,
                        .destroy = destroy, .input_characteristic = input_characteristic,
                        .output_characteristic = output_characteristic, .input_memory = input_memory,
                        .create = create, .run = run, .start_version = start_version},
            .ours = operators[i / DTYPES], .dtype = dtypes[i % DTYPES].dtype, .dtype_name = dtypes[i % DTYPES].name,
        };
        status = ADD_OPERATOR(made, &typed[i]);
    }
    if (!status) domain = made;
    return status;
}

/* ONNX Runtime calls this by name when it registers the library in the options of a session. */
EXPORTED OrtStatus *RegisterCustomOps(OrtOptions *options, const OrtApiBase *base);

OrtStatus *RegisterCustomOps(OrtOptions *options, const OrtApiBase *base) {
    OrtApi api = base->get_api(API_VERSION);
    if (!api) {
        char words[128];
        snprintf(words, sizeof words, "our operators need ONNX Runtime 1.%d or newer, found %s", API_VERSION, base->get_version());
        api = base->get_api(1);
        return CREATE_STATUS(FAILED, words);
    }
    pthread_mutex_lock(&lock);
    OrtStatus *status = domain ? NULL : make_domain(api);
    if (!status) status = ADD_DOMAIN(options, domain);
    pthread_mutex_unlock(&lock);
    return status;
}
