// Calls that launch kernels, and the limits of a launch.
#include <string.h>

#include <vector>

#include "context.h"
#include "failure.h"
#include "module.h"
#include "prepared.h"
#include "stream.h"

int most_shared_memory();

static CUresult check_limits(const Function& f, const unsigned* grid, const unsigned* block,
                             unsigned shared) {
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    std::string shape = format("kernel %s, grid (%u, %u, %u), block (%u, %u, %u)", f.name.c_str(),
                               grid[0], grid[1], grid[2], block[0], block[1], block[2]);
    if (!threads || !blocks) return fail(CUDA_ERROR_INVALID_VALUE, shape + ": an extent is zero");
    if (block[0] > 1024 || block[1] > 1024 || block[2] > 64 || threads > BRAZE_MOST_THREADS)
        return fail(CUDA_ERROR_INVALID_VALUE,
                    shape + ": a block has at most 1024 threads, 64 deep");
    if (grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535)
        return fail(CUDA_ERROR_INVALID_VALUE,
                    shape + ": a grid has at most 65535 blocks in y and z");
    if (threads > f.kernel->most_threads)
        return fail(
            CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
            shape + format(": __launch_bounds__ allows %u threads", f.kernel->most_threads));
    if (shared > f.most_dynamic_shared)
        return fail(
            CUDA_ERROR_INVALID_VALUE,
            shape + format(": %u bytes of dynamic shared memory, beside %u static ones, where %u "
                           "are allowed; set MAX_DYNAMIC_SHARED_SIZE_BYTES for more",
                           shared, f.static_shared, f.most_dynamic_shared));
    return CUDA_SUCCESS;
}

// The parameters of a launch, which come packed in one buffer.
struct Parameters {
    const void* start = nullptr;
    size_t bytes = 0;
};

static CUresult find_parameters(void** pointers, void** extra, Parameters* found) {
    if (pointers) return fail(CUDA_ERROR_NOT_SUPPORTED, "parameters by pointers are not emulated");
    for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2) {
        if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER) found->start = extra[1];
        if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE) found->bytes = *(size_t*)extra[1];
    }
    return CUDA_SUCCESS;
}

CUresult prepare_launch(CUfunction handle, const unsigned* grid, const unsigned* block,
                        unsigned shared, void** pointers, void** extra, Work* work) {
    NEED_CONTEXT("a launch");
    const Function& f = *(Function*)handle;
    Parameters given;
    CUresult result = find_parameters(pointers, extra, &given);
    if (result == CUDA_SUCCESS) result = check_limits(f, grid, block, shared);
    if (result != CUDA_SUCCESS) return result;
    unsigned needed = f.kernel->parameter_bytes;
    if (given.bytes != needed && given.bytes != (needed + 7) / 8 * 8)
        return fail(CUDA_ERROR_INVALID_VALUE,
                    format("kernel %s takes %u bytes of parameters, got %zu", f.name.c_str(),
                           needed, given.bytes));
    if (f.module->device != context->device)
        return fail(CUDA_ERROR_INVALID_HANDLE,
                    "kernel " + f.name + " was loaded on another device");
    std::string copy((const char*)given.start, given.bytes);
    Launch what = {f.name.c_str(),
                   f.module,
                   f.kernel->run,
                   nullptr,
                   {grid[0], grid[1], grid[2]},
                   {block[0], block[1], block[2]},
                   shared,
                   context->device,
                   &context->peers};
    *work = [what, copy = std::move(copy)]() mutable {
        what.parameters = copy.data();
        return execution.run(what);
    };
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y,
                                unsigned grid_z, unsigned block_x, unsigned block_y,
                                unsigned block_z, unsigned shared, CUstream stream,
                                void** parameters, void** extra) {
    NEED_CONTEXT("cuLaunchKernel");
    unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
    Work work;
    CUresult result = prepare_launch(handle, grid, block, shared, parameters, extra, &work);
    if (result != CUDA_SUCCESS) return result;
    count("launches");
    return enqueue(stream, std::move(work));
}

CUresult CUDAAPI cuFuncSetBlockShape(CUfunction handle, int x, int y, int z) {
    Function& f = *(Function*)handle;
    unsigned block[3] = {(unsigned)x, (unsigned)y, (unsigned)z}, grid[3] = {1, 1, 1};
    CUresult result = check_limits(f, grid, block, 0);
    if (result == CUDA_SUCCESS) memcpy(f.block, block, sizeof block);
    return result;
}

CUresult CUDAAPI cuFuncSetSharedSize(CUfunction handle, unsigned bytes) {
    ((Function*)handle)->dynamic_shared = bytes;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    const Function& f = *(Function*)handle;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = (int)f.kernel->most_threads; break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = (int)f.static_shared; break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = (int)f.most_dynamic_shared;
        break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;  // the real compiler tells, see nvrtc.py
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    Function& f = *(Function*)handle;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value < 0 || value + (int)f.static_shared > most_shared_memory())
        return fail(
            CUDA_ERROR_INVALID_VALUE,
            format("kernel %s: %d bytes of dynamic and %u of static shared memory, where a block "
                   "may have %d",
                   f.name.c_str(), value, f.static_shared, most_shared_memory()));
    f.most_dynamic_shared = (unsigned)value;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }
CUresult CUDAAPI cuFuncSetSharedMemConfig(CUfunction, CUsharedconfig) { return CUDA_SUCCESS; }
