// A kernel's launch while it runs: the block's threads as fibers, and what is known of their order.
//
// Blocks run one after the other, the threads of a block in turns: each runs until it waits. Time
// is counted in *stamps*: the counter goes up with every launch, block, barrier and warp's barrier.
// So two uses of one address are ordered if a barrier's stamp lies between them, which `races.cpp`
// asks.
#pragma once

#include <cuda.h>
#include <stdint.h>

#include <set>
#include <string>
#include <vector>

#include "abi.h"
#include "fiber.h"

enum class Waiting { no, to_start, at_barrier, in_warp, ended };

// From global to shared memory, asked for but not done.
struct Copy {
    char* to;
    const char* from;
    unsigned bytes, read;  // of which so many are read; the rest become zeros
    unsigned group;        // its number among the thread's groups
    bool checked;
    const void* site;
};

struct Thread : BrazeThread {
    Waiting waiting;
    uint32_t synchronised;  // stamp of the last barrier of its block or warp
    void* stack_pointer;
    Stack* stack;
    const void* site;  // where it waits: a return address

    std::vector<Copy> copies;  // that it has not waited for, the oldest first
    unsigned groups;           // that it has ended

    // What it came to its warp with, and what it takes from there.
    int operation;
    unsigned mask;
    uint64_t value, result;
    int operand, width;
};

// A block that ran in this launch, for uses that a later block finds.
struct BlockRecord {
    uint32_t start;      // stamp
    uint32_t published;  // uses before this stamp came before a fence
    unsigned index[3];
};

struct Variable {
    uintptr_t start;
    size_t bytes;
};

struct Module;

struct Launch {
    const char* name;
    const Module* module;
    void (*run)(const char* parameters);
    const char* parameters;
    unsigned grid[3], block[3];
    unsigned dynamic_shared;
    int device;
    const std::set<int>* peers;  // devices whose memory may be used too
};

class Execution {
public:
    // Runs all blocks; a failure of any thread ends it.
    CUresult run(const Launch& launch);

    // Called on fibers. They come back when the scheduler continues the thread, or never.
    void wait(Waiting why, const void* site);
    void thread_ended();
    [[noreturn]] void thread_failed(CUresult code, const std::string& what, const void* site);

    bool running = false;
    Thread* thread = nullptr;  // the one that runs
    std::vector<Thread> threads;
    unsigned count = 0;  // threads of a block
    const Launch* launch = nullptr;

    uint32_t stamp = 0;
    uint32_t launch_start = 0, block_start = 0, block_synchronised = 0;
    bool acquired = false;  // the block used an atomic operation, so it may see others' fences
    std::vector<BlockRecord> blocks;

    // The shared memory that this kernel may use: its own variables, and the dynamic part.
    uintptr_t shared_base = 0;
    size_t shared_bytes = 0;

    StackPool stacks;

private:
    friend unsigned braze_barrier(int);
    friend uint64_t braze_warp(int, unsigned, uint64_t, int, int);

    void prepare_block();
    void find_shared();
    void run_block();
    void make_ready(unsigned index) { ready_[tail_++ % QUEUE] = (uint16_t)index; }
    void make_ready_first(unsigned index) { ready_[--head_ % QUEUE] = (uint16_t)index; }
    void make_all_ready();
    Thread* next_ready();
    void go_on(Thread* next);
    [[noreturn]] void all_wait();

    static const unsigned QUEUE = 2 * BRAZE_MOST_THREADS;
    uint16_t ready_[QUEUE];
    unsigned head_ = 0, tail_ = 0;
    unsigned at_barrier_ = 0, barrier_votes_ = 0, barrier_result_ = 0, ended_ = 0;
    std::vector<uint16_t> order_;

    void* scheduler_ = nullptr;  // where the driver's own stack waits
    CUresult code_ = CUDA_SUCCESS;
    std::string failure_;
};

extern Execution execution;
