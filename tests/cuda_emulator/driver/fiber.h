// Fibers: several calls in progress on stacks of their own, of which one runs at a time.
//
// What is written between two switches is ordinary code; a switch saves the registers that a call
// keeps, and takes about two nanoseconds.
#pragma once

#include <stdint.h>

#include <vector>

struct Stack {
    char* low;  // what lies below is not mapped
    char* high;
};

class StackPool {
public:
    // Stacks for the threads of one block, in one range of addresses.
    StackPool();
    Stack* take();
    void give_back(Stack* stack) { free_.push_back(stack); }
    void give_back_all();
    bool contains(uintptr_t address) const { return address - base_ < bytes_; }

private:
    uintptr_t base_, bytes_;
    std::vector<Stack> stacks_;
    std::vector<Stack*> free_;
};

// Sets up a stack so that the first switch to it calls `entry`, which must not return.
void* prepare_stack(const Stack& stack, void (*entry)());

// Saves where this fiber is at *save, and goes on at `to`.
extern "C" void braze_switch(void** save, void* to);
