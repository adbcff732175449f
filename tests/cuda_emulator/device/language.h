// CUDA's keywords, vector types and index variables.
#pragma once

#include "../driver/abi.h"

// The headers below take this for nvcc's pass over host code: they then declare what device code
// may call, and implement it without instructions of a GPU.
#define __CUDACC__ 1
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#include <vector_types.h>
#include <vector_functions.h>

#undef __device__
#undef __host__
#undef __global__
#undef __shared__
#undef __constant__
#undef __noinline__
#undef __managed__
#undef __grid_constant__
#undef __launch_bounds__
#undef __cluster_dims__

#define __device__
#define __host__
#define __constant__
#define __noinline__ __attribute__((noinline))
#define __grid_constant__
#define __launch_bounds__(...)
#define __global__ __attribute__((noinline, visibility("default")))
// Shared memory is a module's thread-local block: it has one known range of addresses.
#define __shared__ thread_local

#define BRAZE_DEVICE static inline __attribute__((always_inline, artificial))

// Assembly reads them, so that the reads count as no access of the kernel's.
BRAZE_DEVICE uint3 braze_read_three(const unsigned* from) {
    uint3 result;
    asm("movl %1, %0" : "=r"(result.x) : "m"(from[0]));
    asm("movl %1, %0" : "=r"(result.y) : "m"(from[1]));
    asm("movl %1, %0" : "=r"(result.z) : "m"(from[2]));
    return result;
}

BRAZE_DEVICE uint3 braze_thread_index() {
    BrazeThread* thread;
    asm("movq %1, %0" : "=r"(thread) : "m"(braze_thread));
    return braze_read_three(&thread->x);
}

BRAZE_DEVICE dim3 braze_dim3(uint3 of) { return dim3(of.x, of.y, of.z); }

#define threadIdx (braze_thread_index())
#define blockIdx (braze_read_three(braze_grid.block_index))
#define blockDim (braze_dim3(braze_read_three(braze_grid.block_size)))
#define gridDim (braze_dim3(braze_read_three(braze_grid.grid_size)))
#define warpSize 32

#undef assert
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition) \
    ((condition) ? (void)0 : braze_assert_failed(#condition, __FILE__, __LINE__))
#endif

BRAZE_DEVICE void __trap() { braze_trap(); }
BRAZE_DEVICE void __brkpt() {}
BRAZE_DEVICE void __nanosleep(unsigned) {}
BRAZE_DEVICE long long clock64() { return (long long)__builtin_ia32_rdtsc(); }
BRAZE_DEVICE int clock() { return (int)__builtin_ia32_rdtsc(); }
BRAZE_DEVICE void __builtin_assume(bool) {}

template <class T> struct BrazeSame {
    typedef T Type;
};

// Loads and stores with hints for the caches are loads and stores.
#define BRAZE_LOAD(name) \
    template <class T> BRAZE_DEVICE T name(const T* address) { return *address; }
#define BRAZE_STORE(name) \
    template <class T> \
    BRAZE_DEVICE void name(T* address, typename BrazeSame<T>::Type value) { *address = value; }
BRAZE_LOAD(__ldg)
BRAZE_LOAD(__ldca)
BRAZE_LOAD(__ldcg)
BRAZE_LOAD(__ldcs)
BRAZE_LOAD(__ldcv)
BRAZE_LOAD(__ldlu)
BRAZE_STORE(__stcg)
BRAZE_STORE(__stcs)
BRAZE_STORE(__stwb)
BRAZE_STORE(__stwt)
