// Calls that allocate and free memory, on devices and on the host.
#include <stdlib.h>
#include <string.h>

#include <map>

#include "context.h"
#include "failure.h"
#include "ipc.h"
#include "memory.h"
#include "module.h"
#include "options.h"
#include "stream.h"

struct HostRange {
    size_t bytes;
    unsigned flags;
    bool own;  // allocated here, not registered
};
static std::map<uintptr_t, HostRange> host_ranges;

static const std::pair<const uintptr_t, HostRange>* host_range(uintptr_t address) {
    auto at = host_ranges.upper_bound(address);
    if (at == host_ranges.begin()) return nullptr;
    --at;
    return address < at->first + at->second.bytes ? &*at : nullptr;
}

bool is_mapped_host_memory(uintptr_t address, size_t bytes) {
    auto range = host_range(address);
    return range && range->second.flags & CU_MEMHOSTALLOC_DEVICEMAP &&
           address + bytes <= range->first + range->second.bytes;
}

// Whether asynchronous copies may wait with memory of the host.
bool is_pinned(uintptr_t address) { return host_range(address) != nullptr; }

CUresult CUDAAPI cuMemAlloc(CUdeviceptr* pointer, size_t bytes) {
    NEED_CONTEXT("cuMemAlloc");
    if (!bytes) return fail(CUDA_ERROR_INVALID_VALUE, "an allocation of no bytes");
    *pointer = memory.allocate(context->device, bytes);
    if (!*pointer)
        return fail(CUDA_ERROR_OUT_OF_MEMORY,
                    format("%zu bytes asked for, %zu of %lu in use on device %d", bytes,
                           memory.used(context->device), options.memory, context->device));
    count("allocations");
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAllocPitch(CUdeviceptr* pointer, size_t* pitch, size_t width, size_t height,
                                 unsigned) {
    *pitch = (width + 511) / 512 * 512;
    return cuMemAlloc(pointer, *pitch * height);
}

CUresult CUDAAPI cuMemAllocManaged(CUdeviceptr* pointer, size_t bytes, unsigned) {
    CUresult result = cuMemAlloc(pointer, bytes);
    // The host writes to it without telling.
    if (result == CUDA_SUCCESS) memory.mark_written(*pointer, bytes);
    return result;
}

CUresult CUDAAPI cuStreamAttachMemAsync(CUstream, CUdeviceptr, size_t, unsigned) {
    return CUDA_SUCCESS;
}

// Frees as a device does: only after all work that was given to it.
CUresult CUDAAPI cuMemFree(CUdeviceptr pointer) {
    Call call;
    if (!pointer) return CUDA_SUCCESS;
    CUresult result = CUDA_SUCCESS;
    const Allocation* own = memory.find(pointer);
    if (own && own->foreign)
        return fail(CUDA_ERROR_INVALID_VALUE, "frees memory of another process");
    if (own && is_open_elsewhere(*own))
        return fail(CUDA_ERROR_INVALID_VALUE,
                    "frees memory that another process has open: " + memory.describe(pointer));
    if (memory.contains(pointer)) result = finish_device(memory.device_of(pointer));
    if (!memory.release(pointer))
        return fail(CUDA_ERROR_INVALID_VALUE, "frees " + memory.describe(pointer));
    count("frees");
    return result;
}

CUresult CUDAAPI cuMemGetInfo(size_t* free, size_t* total) {
    NEED_CONTEXT("cuMemGetInfo");
    *total = options.memory;
    *free = options.memory - memory.used(context->device);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemGetAddressRange(CUdeviceptr* start, size_t* bytes, CUdeviceptr pointer) {
    Call call;
    const Allocation* found = memory.find(pointer);
    if (!found) return fail(CUDA_ERROR_INVALID_VALUE, memory.describe(pointer));
    if (start) *start = found->start;
    if (bytes) *bytes = found->bytes;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuPointerGetAttribute(void* value, CUpointer_attribute attribute,
                                       CUdeviceptr pointer) {
    NEED_CONTEXT("cuPointerGetAttribute");
    bool on_host = host_range(pointer);
    if (!on_host && !memory.find(pointer))
        return fail(CUDA_ERROR_INVALID_VALUE, "no attributes of " + memory.describe(pointer));
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: *(CUcontext*)value = context; return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned*)value = on_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER: *(CUdeviceptr*)value = pointer; return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int*)value = on_host ? context->device : memory.device_of(pointer);
        return CUDA_SUCCESS;
    default: return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult CUDAAPI cuMemHostAlloc(void** pointer, size_t bytes, unsigned flags) {
    NEED_CONTEXT("cuMemHostAlloc");
    *pointer = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*pointer) return CUDA_ERROR_OUT_OF_MEMORY;
    host_ranges[(uintptr_t)*pointer] = {bytes, flags, true};
    count("host allocations");
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAllocHost(void** pointer, size_t bytes) {
    return cuMemHostAlloc(pointer, bytes, 0);
}

CUresult CUDAAPI cuMemFreeHost(void* pointer) {
    Call call;
    auto at = host_ranges.find((uintptr_t)pointer);
    if (at == host_ranges.end() || !at->second.own)
        return fail(CUDA_ERROR_INVALID_VALUE, "frees host memory that the driver did not allocate");
    CUresult result = finish_all();
    host_ranges.erase(at);
    free(pointer);
    return result;
}

CUresult CUDAAPI cuMemHostRegister(void* pointer, size_t bytes, unsigned flags) {
    NEED_CONTEXT("cuMemHostRegister");
    if (host_ranges.count((uintptr_t)pointer)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    // The two sets of flags differ in which bit says "mapped".
    unsigned mapped = flags & CU_MEMHOSTREGISTER_DEVICEMAP ? CU_MEMHOSTALLOC_DEVICEMAP : 0;
    host_ranges[(uintptr_t)pointer] = {bytes, mapped, false};
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostUnregister(void* pointer) {
    Call call;
    auto at = host_ranges.find((uintptr_t)pointer);
    if (at == host_ranges.end() || at->second.own) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    CUresult result = finish_all();
    host_ranges.erase(at);
    return result;
}

CUresult CUDAAPI cuMemHostGetDevicePointer(CUdeviceptr* device, void* host, unsigned) {
    Call call;
    if (!is_mapped_host_memory((uintptr_t)host, 1))
        return fail(CUDA_ERROR_INVALID_VALUE, "host memory that is not mapped");
    *device = (CUdeviceptr)host;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostGetFlags(unsigned* flags, void* host) {
    Call call;
    auto range = host_range((uintptr_t)host);
    if (!range) return CUDA_ERROR_INVALID_VALUE;
    *flags = range->second.flags;
    return CUDA_SUCCESS;
}
