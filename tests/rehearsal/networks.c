/* libcudnn.so.9 of the rehearsal: it accepts every graph, and offers one engine that wants workspace.

   A descriptor keeps what is set, and gives it back. */
#include "device.h"

#include <stdlib.h>
#include <string.h>

enum { EXECUTION_FAILED = 5000 };
enum { TYPE_INT64 = 3, TYPE_DESCRIPTOR = 15, TYPE_CHARACTER = 24, TYPE_FRACTION = 26 };
enum { CONFIGURATION_SHARED_MEMORY = 304, PLAN_WORKSPACE_SIZE = 402 };

typedef struct { Stream *stream; } Handle;
typedef struct Attribute { struct Attribute *next; int name, type; long long count; void *values; } Attribute;
typedef struct { int type; long long workspace; Attribute *attributes; } Descriptor;

static size_t size_of(int type) {
    static const size_t sizes[] = {8, 4, 1, 8, 4, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 8};
    return type < 16 ? sizes[type] : type == TYPE_CHARACTER ? 1 : type == TYPE_FRACTION ? 16 : 4;
}

size_t cudnnGetVersion(void) { return 91900; }
size_t cudnnGetCudartVersion(void) { return 13000; }
const char *cudnnGetErrorString(int status) { return "CUDNN_STATUS of the rehearsal"; }
void cudnnGetLastErrorString(char *out, size_t size) { if (size) *out = 0; }
int cudnnCreate(Handle **handle) { *handle = calloc(1, sizeof **handle); return SUCCESS; }
int cudnnDestroy(Handle *handle) { free(handle); return SUCCESS; }
int cudnnSetStream(Handle *handle, Stream *stream) { handle->stream = stream; return SUCCESS; }
int cudnnGetStream(Handle *handle, Stream **stream) { *stream = handle->stream; return SUCCESS; }

/* Up to 8 MiB, another one for each plan, as for the layers of a network. */
static long long next_workspace(void) {
    static unsigned made;
    return (++made * 2654435761u >> 9) & ~511;
}

int cudnnBackendCreateDescriptor(int type, Descriptor **out) {
    *out = calloc(1, sizeof **out);
    (*out)->type = type;
    (*out)->workspace = next_workspace();
    return SUCCESS;
}

int cudnnBackendDestroyDescriptor(Descriptor *descriptor) {
    for (Attribute *each = descriptor->attributes, *next; each; each = next) {
        next = each->next;
        free(each->values);
        free(each);
    }
    free(descriptor);
    return SUCCESS;
}

int cudnnBackendFinalize(Descriptor *descriptor) { return SUCCESS; }

int cudnnBackendSetAttribute(Descriptor *descriptor, int name, int type, long long count, const void *values) {
    Attribute *kept = calloc(1, sizeof *kept);
    size_t size = count * size_of(type);
    *kept = (Attribute){descriptor->attributes, name, type, count, malloc(size ? size : 1)};
    memcpy(kept->values, values, size);
    descriptor->attributes = kept;
    return SUCCESS;
}

int cudnnBackendGetAttribute(Descriptor *descriptor, int name, int type, long long wanted, long long *count, void *out) {
    long long ignored;
    if (!count) count = &ignored;
    *count = 0;
    Attribute *found = descriptor->attributes;
    while (found && found->name != name) found = found->next;
    if (found && type != TYPE_DESCRIPTOR) {
        *count = found->count;
        if (out) memcpy(out, found->values, (wanted < found->count ? wanted : found->count) * size_of(type));
    } else if (type == TYPE_DESCRIPTOR) {
        *count = 1; /* Whoever asks has made the descriptors that are to be filled. */
    } else if (type == TYPE_INT64 && wanted) {
        *count = 1;
        *(long long *)out = name == PLAN_WORKSPACE_SIZE ? descriptor->workspace : 0;
    } else if (name == CONFIGURATION_SHARED_MEMORY) {
        *count = 1;
        *(int *)out = 0;
    }
    return SUCCESS;
}

int cudnnBackendExecute(Handle *handle, Descriptor *plan, Descriptor *pack) {
    return device_kernel(handle->stream, __func__) ? EXECUTION_FAILED : SUCCESS;
}

#define MADE(name) int name(void **out) { *out = calloc(1, 64); return SUCCESS; }
MADE(cudnnCreateActivationDescriptor)
MADE(cudnnCreateConvolutionDescriptor)
MADE(cudnnCreateDropoutDescriptor)
MADE(cudnnCreateFilterDescriptor)
MADE(cudnnCreateLRNDescriptor)
MADE(cudnnCreatePoolingDescriptor)
MADE(cudnnCreateReduceTensorDescriptor)
MADE(cudnnCreateTensorDescriptor)

#define ENDED(name) int name(void *descriptor) { free(descriptor); return SUCCESS; }
ENDED(cudnnDestroyActivationDescriptor)
ENDED(cudnnDestroyConvolutionDescriptor)
ENDED(cudnnDestroyDropoutDescriptor)
ENDED(cudnnDestroyFilterDescriptor)
ENDED(cudnnDestroyLRNDescriptor)
ENDED(cudnnDestroyPoolingDescriptor)
ENDED(cudnnDestroyReduceTensorDescriptor)
ENDED(cudnnDestroyTensorDescriptor)

#define TAKEN(name) int name(void) { return SUCCESS; }
TAKEN(cudnnSetActivationDescriptor)
TAKEN(cudnnSetConvolutionGroupCount)
TAKEN(cudnnSetConvolutionMathType)
TAKEN(cudnnSetConvolutionNdDescriptor)
TAKEN(cudnnSetFilterNdDescriptor)
TAKEN(cudnnSetLRNDescriptor)
TAKEN(cudnnSetPoolingNdDescriptor)
TAKEN(cudnnSetReduceTensorDescriptor)
TAKEN(cudnnSetTensorNdDescriptor)

#define WORK(name) int name(Handle *handle) { return device_kernel(handle->stream, #name) ? EXECUTION_FAILED : SUCCESS; }
WORK(cudnnActivationForward)
WORK(cudnnAddTensor)
WORK(cudnnConvolutionBiasActivationForward)
WORK(cudnnConvolutionForward)
WORK(cudnnPoolingForward)
WORK(cudnnReduceTensor)
WORK(cudnnSoftmaxForward)

int cudnnGetReductionWorkspaceSize(void *handle, void *of, void *from, void *to, size_t *size) { *size = 1024; return SUCCESS; }
int cudnnGetReductionIndicesSize(void *handle, void *of, void *from, void *to, size_t *size) { *size = 0; return SUCCESS; }
