// Who used which word when, and which uses no barrier orders.
#pragma once

#include <stdint.h>

#include <vector>

#include "execution.h"
#include "memory.h"

// What an access does. An atomic one conflicts only with plain ones.
enum class Access { read, write, atomic };

// Notes the use of some bytes of a word, and fails the thread if another thread's use conflicts.
// `shared`: the word is of shared memory, where only the block's own uses count.
void note_use(Cell* cell, unsigned byte_mask, Access access, bool shared, uintptr_t address,
              const void* site);

// The shadow of the running kernel's shared memory.
class SharedMemory {
public:
    void use(uintptr_t base, const std::vector<Variable>& variables);
    void start_block();  // nobody has written yet
    void end_launch();
    void forget_uses();
    bool contains(uintptr_t address) const { return address - base_ < states_.size(); }
    unsigned char* state(uintptr_t address) { return &states_[address - base_]; }
    Cell* cell(uintptr_t address) { return &cells_[(address - base_) / 4]; }

private:
    uintptr_t base_ = 0;
    std::vector<unsigned char> states_;
    std::vector<Cell> cells_;
    std::vector<Variable> variables_;
};

extern SharedMemory shared_memory;
