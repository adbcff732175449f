#include "context.h"

#include <cudaProfiler.h>

#include <algorithm>
#include <vector>

#include "failure.h"
#include "memory.h"
#include "options.h"
#include "stream.h"

std::recursive_mutex Call::mutex_;
thread_local int Call::depth_;
static thread_local std::vector<CUcontext> stack;
static std::vector<CUctx_st*> primaries;
static std::vector<int> retained;
static bool initialised;

CUcontext current_context() { return stack.empty() ? nullptr : stack.back(); }

CUresult CUDAAPI cuInit(unsigned) {
    Call call;
    if (initialised) return CUDA_SUCCESS;
    options.devices = std::clamp(options.devices, 0, Memory::MOST_DEVICES);
    if (!options.devices) return CUDA_ERROR_NO_DEVICE;
    memory.reserve(options.devices);
    for (int i = 0; i < options.devices; i++)
        primaries.push_back(new CUctx_st{i, 0, true, false, {}});
    retained.assign((size_t)options.devices, 0);
    initialised = true;
    check_leaks_at_exit();
    return CUDA_SUCCESS;
}

static bool is_device(CUdevice device) { return device >= 0 && (size_t)device < primaries.size(); }

CUresult CUDAAPI cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device) {
    Call call;
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    *context = new CUctx_st{device, flags, false, true, {}};
    stack.push_back(*context);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxCreate_v4(CUcontext* context, CUctxCreateParams*, unsigned flags,
                                CUdevice device) {
    return cuCtxCreate_v2(context, flags, device);
}

// A context that is current is popped, once.
static void pop_if_current(CUcontext context) {
    if (!stack.empty() && stack.back() == context) stack.pop_back();
}

CUresult CUDAAPI cuCtxDestroy(CUcontext context) {
    Call call;
    if (!context || !context->alive || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult result = finish_device(context->device);
    context->alive = false;
    pop_if_current(context);
    return result;
}

CUresult CUDAAPI cuCtxAttach(CUcontext* context, unsigned) {
    *context = current_context();
    return *context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    stack.push_back(context);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext* context) {
    if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = stack.back();
    stack.pop_back();
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
    if (!stack.empty()) stack.pop_back();
    if (context) stack.push_back(context);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext* context) {
    *context = current_context();
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetDevice(CUdevice* device) {
    NEED_CONTEXT("cuCtxGetDevice");
    *device = context->device;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetApiVersion(CUcontext, unsigned* version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSynchronize() {
    NEED_CONTEXT("cuCtxSynchronize");
    count("synchronisations");
    return finish_device(context->device);
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    Call call;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    retained[(size_t)device]++;
    *context = primaries[(size_t)device];
    (*context)->alive = true;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
    Call call;
    if (!is_device(device) || !retained[(size_t)device]) return CUDA_ERROR_INVALID_CONTEXT;
    if (--retained[(size_t)device] == 0) {
        finish_device(device);
        primaries[(size_t)device]->alive = false;
    }
    return CUDA_SUCCESS;
}

// PyCUDA detaches from primary contexts too.
CUresult CUDAAPI cuCtxDetach(CUcontext context) {
    if (!context || !context->primary) return cuCtxDestroy(context);
    pop_if_current(context);
    return cuDevicePrimaryCtxRelease(context->device);
}

CUresult CUDAAPI cuCtxEnablePeerAccess(CUcontext peer, unsigned) {
    NEED_CONTEXT("cuCtxEnablePeerAccess");
    if (!peer || peer->device == context->device) return CUDA_ERROR_INVALID_DEVICE;
    bool added = context->peers.insert(peer->device).second;
    return added ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
}

CUresult CUDAAPI cuCtxDisablePeerAccess(CUcontext peer) {
    NEED_CONTEXT("cuCtxDisablePeerAccess");
    bool removed = peer && context->peers.erase(peer->device);
    return removed ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}

// Hints that make no difference here.
CUresult CUDAAPI cuCtxSetCacheConfig(CUfunc_cache) { return CUDA_SUCCESS; }
CUresult CUDAAPI cuCtxGetCacheConfig(CUfunc_cache* config) {
    *config = CU_FUNC_CACHE_PREFER_NONE;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxSetSharedMemConfig(CUsharedconfig) { return CUDA_SUCCESS; }
CUresult CUDAAPI cuCtxGetSharedMemConfig(CUsharedconfig* config) {
    *config = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxSetLimit(CUlimit, size_t) { return CUDA_SUCCESS; }
CUresult CUDAAPI cuCtxGetLimit(size_t* value, CUlimit limit) {
    *value = limit == CU_LIMIT_STACK_SIZE         ? 1024
             : limit == CU_LIMIT_PRINTF_FIFO_SIZE ? 1 << 20
                                                  : 8 << 20;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuProfilerStart() { return CUDA_SUCCESS; }
CUresult CUDAAPI cuProfilerStop() { return CUDA_SUCCESS; }
