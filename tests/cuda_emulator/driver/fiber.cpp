#include "fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "abi.h"

static const size_t PAGE = 4096;
static const size_t STACK_BYTES = 256 * 1024;

StackPool::StackPool() {
    bytes_ = BRAZE_MOST_THREADS * STACK_BYTES;
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("emulated CUDA driver: no memory for the stacks of threads");
        abort();
    }
    base_ = (uintptr_t)memory;
    for (int i = 0; i < BRAZE_MOST_THREADS; i++) {
        char* low = (char*)memory + i * STACK_BYTES;
        mprotect(low, PAGE, PROT_NONE);
        // Stacks that start at one offset of their pages would share few sets of the cache.
        char* high = low + STACK_BYTES - i * 320 % PAGE / 64 * 64;
        stacks_.push_back({low + PAGE, high});
    }
    give_back_all();
}

Stack* StackPool::take() {
    Stack* stack = free_.back();
    free_.pop_back();
    return stack;
}

void StackPool::give_back_all() {
    free_.clear();
    for (size_t i = stacks_.size(); i-- > 0;) free_.push_back(&stacks_[i]);
}

void* prepare_stack(const Stack& stack, void (*entry)()) {
    // Six registers and the address to return to; a function starts 8 bytes off a multiple of 16.
    void** top = (void**)(stack.high - 8);
    *top = nullptr;
    *--top = (void*)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    return top;
}

asm(R"(
.text
.globl braze_switch
.type braze_switch, @function
braze_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size braze_switch, .-braze_switch
)");
