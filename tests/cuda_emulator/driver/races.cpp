#include "races.h"

#include <string.h>

#include <algorithm>

#include "failure.h"

SharedMemory shared_memory;

// A use: stamp << 32 | flags | bytes of the word << 10 | thread.
static const Use ATOMIC = 1u << 31;
static const Use EARLIER = 1u << 30;  // an earlier block of this launch read the word too

static uint32_t stamp_of(Use use) { return (uint32_t)(use >> 32); }
static unsigned thread_of(Use use) { return (unsigned)use & 1023; }
static unsigned bytes_of(Use use) { return (unsigned)use >> 10 & 15; }

// The block of this launch whose use has that stamp.
static const BlockRecord& block_of(uint32_t stamp) {
    auto after = std::upper_bound(
        execution.blocks.begin(), execution.blocks.end(), stamp,
        [](uint32_t value, const BlockRecord& block) { return value < block.start; });
    return *std::prev(after);
}

// Whether nothing orders an earlier use of these bytes before the running thread.
static bool unordered(Use use, unsigned byte_mask, bool shared) {
    const Execution& e = execution;
    uint32_t stamp = stamp_of(use);
    if (stamp < (shared ? e.block_start : e.launch_start) || !(bytes_of(use) & byte_mask))
        return false;
    if (stamp < e.block_start) return !(e.acquired && stamp < block_of(stamp).published);
    if (stamp < e.block_synchronised || thread_of(use) == e.thread->index) return false;
    bool same_warp = thread_of(use) / 32 == e.thread->index / 32;
    return !(same_warp && stamp < e.thread->synchronised);
}

[[noreturn]] static void report(Use use, const char* did, const char* does, bool shared,
                                uintptr_t address, const void* site) {
    const Launch& launch = *execution.launch;
    unsigned i = thread_of(use), x = launch.block[0], y = launch.block[1];
    std::string who = format("thread (%u, %u, %u)", i % x, i / x % y, i / x / y);
    const char* missing = "no barrier lies between";
    if (stamp_of(use) < execution.block_start) {
        const unsigned* b = block_of(stamp_of(use)).index;
        who = format("block (%u, %u, %u)", b[0], b[1], b[2]);
        missing = "nothing orders the blocks of a grid";
    }
    std::string where = shared ? "shared memory" : memory.describe(address);
    execution.thread_failed(
        CUDA_ERROR_LAUNCH_FAILED,
        format("race: %s what %s %s, and %s (%s)", does, who.c_str(), did, missing, where.c_str()),
        site);
}

void note_use(Cell* cell, unsigned byte_mask, Access access, bool shared, uintptr_t address,
              const void* site) {
    const Execution& e = execution;
    Use now = (Use)e.stamp << 32 | byte_mask << 10 | e.thread->index;
    uint32_t oldest = shared ? e.block_start : e.launch_start;
    const char* does = access == Access::read    ? "reads"
                       : access == Access::write ? "writes"
                                                 : "changes";
    if (stamp_of(cell->write) >= oldest && unordered(cell->write, byte_mask, shared) &&
        !(access == Access::atomic && cell->write & ATOMIC))
        report(cell->write, cell->write & ATOMIC ? "changed" : "wrote", does, shared, address,
               site);
    if (access == Access::read) {
        Use last = cell->read;
        if (stamp_of(last) >= oldest) {
            if (thread_of(last) != e.thread->index || stamp_of(last) < e.block_start)
                cell->other_read = last;
            else if (stamp_of(last) == e.stamp) now |= last & 15 << 10;
            if (!shared && (stamp_of(last) < e.block_start || last & EARLIER)) now |= EARLIER;
        }
        cell->read = now;
        return;
    }
    if (stamp_of(cell->read) >= oldest) {
        for (Use use : {cell->read, cell->other_read})
            if (unordered(use, byte_mask, shared)) report(use, "read", does, shared, address, site);
        if (cell->read & EARLIER && !e.acquired)
            report(((Use)e.launch_start + 1) << 32 | (cell->read & 0xffffffff), "read", does,
                   shared, address, site);
    }
    if (access == Access::atomic) now |= ATOMIC;
    if (thread_of(cell->write) == e.thread->index && stamp_of(cell->write) == e.stamp)
        now |= cell->write & 15 << 10;
    cell->write = now;
}

void SharedMemory::use(uintptr_t base, const std::vector<Variable>& variables) {
    base_ = base;
    variables_ = variables;
    size_t bytes = execution.shared_bytes;
    states_.assign(bytes, 0);
    if (cells_.size() < bytes / 4 + 1) cells_.resize(bytes / 4 + 1);
}

void SharedMemory::start_block() {
    for (const Variable& variable : variables_) {
        memset(state(variable.start), ALLOCATED, variable.bytes);
        memset((void*)variable.start, 0xff, variable.bytes);
    }
}

void SharedMemory::end_launch() {
    for (const Variable& variable : variables_) memset(state(variable.start), 0, variable.bytes);
}

void SharedMemory::forget_uses() { std::fill(cells_.begin(), cells_.end(), Cell{}); }
