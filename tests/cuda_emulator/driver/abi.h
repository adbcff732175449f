// What compiled kernels and the emulated driver know of each other.
//
// Kernels are host code that the stand-in `nvcc` made; they call the functions below, which the
// driver's library defines. Plain C, so that no name is mangled.
#pragma once

#include <stdint.h>

#define BRAZE_MOST_THREADS 1024         // of a block, as on every GPU
#define BRAZE_MOST_SHARED (227 * 1024)  // bytes of shared memory of a block, on the largest GPU

enum BrazeWarpOperation {
    BRAZE_SYNC,
    BRAZE_SHUFFLE,
    BRAZE_SHUFFLE_UP,
    BRAZE_SHUFFLE_DOWN,
    BRAZE_SHUFFLE_XOR,
    BRAZE_BALLOT,
    BRAZE_MATCH_ANY,
    BRAZE_MATCH_ALL,
    BRAZE_REDUCE_ADD,
    BRAZE_REDUCE_MIN_SIGNED,
    BRAZE_REDUCE_MAX_SIGNED,
    BRAZE_REDUCE_MIN,
    BRAZE_REDUCE_MAX,
    BRAZE_REDUCE_AND,
    BRAZE_REDUCE_OR,
    BRAZE_REDUCE_XOR,
};

extern "C" {

// The running thread's place in its block, and the block's in its grid.
struct BrazeThread {
    unsigned x, y, z, index;
};
struct BrazeGrid {
    unsigned block_index[3], block_size[3], grid_size[3];
};
extern struct BrazeThread* braze_thread;
extern struct BrazeGrid braze_grid;

// All threads of the block meet; returns how many of them came with a true predicate.
unsigned braze_barrier(int predicate);

// The lanes of `mask` meet and exchange; what `value`, `operand` and the result mean depends on the
// operation. `width` is that of shuffles.
uint64_t braze_warp(int operation, unsigned mask, uint64_t value, int operand, int width);

// Copies a parameter out of the driver's buffer: no access of the kernel's.
void braze_read_parameter(void* to, const char* from, unsigned bytes);

// Comes before an atomic operation on `bytes` bytes: checks the access.
void braze_atomic(void* address, unsigned bytes);

// Asks for a copy to shared memory that is done when its group is waited for: `read` of its bytes
// come from global memory, the rest are zeros. `checked`: were the kernel's accesses, too?
void braze_copy_async(void* to, const void* from, unsigned bytes, unsigned read, int checked);
// Ends the group of the copies that the thread asked for since it ended the last one.
void braze_copy_commit(void);
// Waits for all of the thread's groups but the latest.
void braze_copy_wait(unsigned latest);

// A memory fence: what the block wrote so far may be read by blocks that synchronise with it.
void braze_fence(void);

void braze_trap(void);
void braze_assert_failed(const char* condition, const char* file, int line);

// A kernel as the driver calls it: `run` unpacks the parameters from their buffer.
struct BrazeKernel {
    void (*function)(void);
    void (*run)(const char* parameters);
    unsigned parameter_bytes;
    unsigned most_threads;  // of __launch_bounds__, or BRAZE_MOST_THREADS
};

// A variable in shared memory that a kernel, or a function that it calls, mentions.
struct BrazeSharedVariable {
    void (*function)(void);
    uint64_t offset;  // in the module's thread-local block
    uint64_t bytes;
};
}
