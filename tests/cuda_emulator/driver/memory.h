// Device memory: host memory at addresses that are never given out twice, with a shadow beside it.
//
// One range of addresses per device. A byte of memory has a byte of state (allocated? written?),
// and each word of four bytes a `Cell` that says who used it last; both lie in ranges of their own,
// at places computed from the address.
#pragma once

#include <cuda.h>
#include <stddef.h>
#include <stdint.h>

#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>

// One use of a word: when (a stamp, see execution.h), by which thread of its block, which bytes.
typedef uint64_t Use;

struct Cell {
    Use write, read;
    Use other_read;  // the latest read by another thread than that of `read`
};

enum State : unsigned char { ALLOCATED = 1, WRITTEN = 2 };

struct Allocation {
    uintptr_t start;
    size_t bytes;
    int device;
    uint64_t serial;  // the first allocation of a process is number 1
    bool shared = false;   // its pages lie in the device's file, for other processes
    bool foreign = false;  // another process allocated it
};

class Memory {
public:
    static const int MOST_DEVICES = 8;
    static const uintptr_t DEVICE_BYTES = 1ull << 37;

    void reserve(int devices);

    // Zero if there is not enough left.
    uintptr_t allocate(int device, size_t bytes);
    bool release(uintptr_t address);
    const Allocation* find(uintptr_t address) const;  // the one that the address lies in

    // Memory of other processes, see ipc.cpp. Moves an allocation's pages to the file of its
    // device, at their distance from the device's first byte; false where that fails.
    bool share(uintptr_t start, int file);
    // Maps bytes of another process's file. Zero where that fails; `release` ends it.
    uintptr_t attach(int device, int file, uint64_t offset, size_t bytes);
    uintptr_t first(int device) const { return base_ + device * DEVICE_BYTES; }
    size_t used(int device) const { return used_[device]; }
    const std::map<uintptr_t, Allocation>& live() const { return live_; }

    bool contains(uintptr_t address) const { return address - base_ < bytes_; }
    int device_of(uintptr_t address) const { return (int)((address - base_) / DEVICE_BYTES); }
    unsigned char* state(uintptr_t address) const { return states_ + (address - base_); }
    Cell* cell(uintptr_t address) const { return cells_ + (address - base_) / 4; }

    // Whether all bytes of a range have the state's bit; if not, *first is the first that has not.
    bool all(uintptr_t address, size_t bytes, State bit, uintptr_t* first) const;
    void mark_written(uintptr_t address, size_t bytes);
    void mark_unwritten(uintptr_t address, size_t bytes);

    // Forget who used what: stamps start anew.
    void forget_uses();

    // What lies at an address that a kernel must not use, for a message.
    std::string describe(uintptr_t address) const;

    uintptr_t base() const { return base_; }
    uintptr_t bytes() const { return bytes_; }

private:
    void forget_pages(uintptr_t start, uintptr_t end);

    uintptr_t base_ = 0, bytes_ = 0;
    unsigned char* states_ = nullptr;
    Cell* cells_ = nullptr;
    uintptr_t next_[MOST_DEVICES] = {};
    size_t used_[MOST_DEVICES] = {};
    uint64_t serial_ = 0;
    std::map<uintptr_t, Allocation> live_, freed_;
    std::unordered_map<uintptr_t, int> allocations_in_page_;
    std::unordered_set<uintptr_t> shared_pages_;
};

extern Memory memory;
