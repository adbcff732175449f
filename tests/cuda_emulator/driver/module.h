// Loaded modules: shared libraries that the stand-in `nvcc` made, and their kernels.
#pragma once

#include <cuda.h>

#include <map>
#include <string>
#include <vector>

#include "abi.h"
#include "execution.h"

struct Module;

struct Function {
    const Module* module;
    const BrazeKernel* kernel;
    std::string name;
    std::vector<BrazeSharedVariable> variables;
    unsigned static_shared;
    unsigned most_dynamic_shared;   // as set by CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    unsigned block[3] = {1, 1, 1};  // as set by cuFuncSetBlockShape
    unsigned dynamic_shared = 0;
};

struct Module {
    int device;
    void* library;
    std::string path;
    uintptr_t first, last;    // where it is loaded
    uint64_t dynamic_offset;  // of the dynamic shared memory in the thread-local block
    size_t shared_bytes;
    std::map<std::string, Function> functions;

    // Shared memory is thread-local, so where it lies depends on the calling thread.
    uintptr_t shared_base() const;
    std::vector<Variable> variables_of(const Launch& launch) const;
    bool holds(uintptr_t address, size_t bytes) const {
        return address >= first && address + bytes <= last;
    }
};

// Whether a range lies in the variables of a loaded module.
bool is_module_memory(uintptr_t address, size_t bytes);

// Whether a kernel may use the range: host memory that was allocated or registered as mapped.
bool is_mapped_host_memory(uintptr_t address, size_t bytes);

// Fails the running thread if the address is another device's, and no peer access was enabled.
void check_peer(uintptr_t address, const void* site);
