// weight <- base + sum of scale * up @ down over products, in fp32, rounded once to the dtype that
// the weight is stored in.
//
//     weight, base [outputs, inputs]    up [outputs, rank]    down [rank, inputs]
//
// `base` may be `weight`. The products are `count` of the table at `factors`, from `first` on; without
// any the base is copied. The dtypes are numbers, of a weight and of each product's factors: 0 is
// fp32, 1 fp16, 2 bf16.
//
// A block has COLUMNS times as many neighbouring columns as threads, of ROWS rows. A thread makes
// ROWS numbers of each of COLUMNS columns: a number of `down` serves ROWS sums and one of `up`, which
// is the same for a whole block, COLUMNS. The grid is
// [ceil(inputs / (COLUMNS * threads)), ceil(outputs / ROWS)].
//
// What is made of this file is low_rank.ptx: python -m scripts.compile_kernels. A test compiles it
// for the host as well and runs it there, with STORED_AS_HALF of its own.

#include "numbers.h"

#define ROWS 8
#define COLUMNS 4

// A table of these lies at the begin of `factors`. Both factors are so many bytes behind that begin:
// of addresses in memory the compiler would not know that they are global ones.
struct Product {
    long long up, down;
    float scale;
    int rank, dtype, unused;
};

struct Fp32 {
    typedef float Stored;
    static __device__ float from(Stored number) { return number; }
    static __device__ Stored to(float number) { return number; }
};

struct Fp16 {
    typedef bits16 Stored;
    static __device__ float from(Stored number) { return from_half(number); }
    static __device__ Stored to(float number) { return to_half(number); }
};

struct Bf16 {
    typedef bits16 Stored;
    static __device__ float from(Stored number) { return from_bfloat(number); }
    static __device__ Stored to(float number) { return to_bfloat(number); }
};

// A thread's part of a matrix: columns that are a block's threads apart, so that neighbouring
// threads read neighbouring numbers.
struct Part {
    int row, column, apart, outputs, inputs;

    __device__ bool has_row(int y) const { return row + y < outputs; }
    __device__ bool has_column(int x) const { return column + x * apart < inputs; }
    __device__ long long place(int y, int x) const {
        return (long long)(row + y) * inputs + column + x * apart;
    }
};

template <typename Factor>
static __device__ void add(
    float (&sums)[ROWS][COLUMNS], const char* factors, const Product& product, const Part& part) {
    typedef typename Factor::Stored Stored;
    const int rank = product.rank;
    const float scale = product.scale;
    const Stored* up = (const Stored*)(factors + product.up) + (long long)part.row * rank;
    const Stored* down = (const Stored*)(factors + product.down) + part.column;
    for (int k = 0; k < rank; ++k, ++up, down += part.inputs) {
        float across[COLUMNS];
        for (int x = 0; x < COLUMNS; ++x)
            across[x] = part.has_column(x) ? Factor::from(down[x * part.apart]) : 0;
        for (int y = 0; y < ROWS; ++y) {
            if (!part.has_row(y)) continue;
            const float factor = scale * Factor::from(up[(long long)y * rank]);
            for (int x = 0; x < COLUMNS; ++x) sums[y][x] += factor * across[x];
        }
    }
}

template <typename Weight>
static __device__ void put(
    const float (&sums)[ROWS][COLUMNS], void* weight, const void* base, const Part& part) {
    typedef typename Weight::Stored Stored;
    for (int y = 0; y < ROWS; ++y)
        for (int x = 0; x < COLUMNS; ++x) {
            if (!part.has_row(y) || !part.has_column(x)) continue;
            const float own = Weight::from(((const Stored*)base)[part.place(y, x)]);
            ((Stored*)weight)[part.place(y, x)] = Weight::to(own + sums[y][x]);
        }
}

extern "C" __global__ void low_rank(
    void* weight, const void* base, const char* factors, int first, int count, int outputs,
    int inputs, int dtype) {
    const Part part = {
        (int)blockIdx.y * ROWS, (int)(blockIdx.x * blockDim.x) * COLUMNS + (int)threadIdx.x,
        (int)blockDim.x, outputs, inputs};
    float sums[ROWS][COLUMNS] = {};
    for (int i = first; i < first + count; ++i) {
        const Product& product = ((const Product*)factors)[i];
        if (product.dtype == 0) add<Fp32>(sums, factors, product, part);
        else if (product.dtype == 1) add<Fp16>(sums, factors, product, part);
        else add<Bf16>(sums, factors, product, part);
    }
    if (dtype == 0) put<Fp32>(sums, weight, base, part);
    else if (dtype == 1) put<Fp16>(sums, weight, base, part);
    else put<Bf16>(sums, weight, base, part);
}
