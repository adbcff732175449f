// Calls that copy and fill memory. Every range is checked, and states go along: a copy of what
// nobody wrote is again what nobody wrote, and must not reach the host.
#include <string.h>

#include <algorithm>

#include "context.h"
#include "failure.h"
#include "memory.h"
#include "module.h"
#include "options.h"
#include "prepared.h"
#include "stream.h"

bool is_pinned(uintptr_t address);

// One end of a copy: rows of bytes on a device or the host.
struct Rows {
    bool device;
    uintptr_t start;
    size_t pitch, slice;  // bytes from row to row, and from one slice of rows to the next

    uintptr_t row(size_t y, size_t z) const { return start + z * slice + y * pitch; }
};

static CUresult check_range(uintptr_t address, size_t bytes, const char* what) {
    if (is_module_memory(address, bytes)) return CUDA_SUCCESS;
    uintptr_t bad = address;
    if (memory.contains(address) && memory.all(address, bytes, ALLOCATED, &bad))
        return CUDA_SUCCESS;
    return fail(CUDA_ERROR_INVALID_VALUE, format("%s of %zu bytes at 0x%lx reaches %s", what, bytes,
                                                 address, memory.describe(bad).c_str()));
}

static CUresult copy_row(const Rows& to, uintptr_t target, const Rows& from, uintptr_t source,
                         size_t bytes) {
    CUresult result = CUDA_SUCCESS;
    if (to.device) result = check_range(target, bytes, "a copy to the device");
    if (result == CUDA_SUCCESS && from.device)
        result = check_range(source, bytes, "a copy from the device");
    if (result != CUDA_SUCCESS) return result;
    bool tracked = from.device && memory.contains(source);
    uintptr_t bad;
    if (tracked && !to.device && !options.unwritten && !memory.all(source, bytes, WRITTEN, &bad))
        return fail(CUDA_ERROR_ILLEGAL_ADDRESS,
                    "a copy to the host of what nobody wrote: " + memory.describe(bad));
    memmove((void*)target, (void*)source, bytes);
    if (to.device && memory.contains(target)) {
        if (tracked) memmove(memory.state(target), memory.state(source), bytes);
        else memory.mark_written(target, bytes);
    }
    return result;
}

static CUresult copy(const Rows& to, const Rows& from, size_t bytes, size_t height, size_t depth) {
    CUresult result = CUDA_SUCCESS;
    for (size_t z = 0; z < depth; z++)
        for (size_t y = 0; y < height && result == CUDA_SUCCESS; y++)
            result = copy_row(to, to.row(y, z), from, from.row(y, z), bytes);
    return result;
}

static const char* kind_of(const Rows& to, const Rows& from) {
    return to.device ? (from.device ? "copies between devices" : "copies to devices")
                     : "copies to the host";
}

// Host memory that is not pinned cannot wait: such a copy is done before the call returns.
static CUresult submit(const char* name, const Rows& to, const Rows& from, size_t bytes,
                       size_t height, size_t depth, bool wait, CUstream stream) {
    Call call;
    if (!current_context())
        return fail(CUDA_ERROR_INVALID_CONTEXT, std::string(name) + " needs a context");
    if (bytes && height && depth) {
        count(kind_of(to, from));
        count("bytes copied", bytes * height * depth);
        const Rows& host = to.device ? from : to;
        if (!host.device && !is_pinned(host.start)) wait = true;
    }
    CUresult result = enqueue(stream, [=] { return copy(to, from, bytes, height, depth); });
    if (result != CUDA_SUCCESS || !wait) return result;
    return stream ? finish_stream(stream) : cuStreamSynchronize(nullptr);
}

static Rows device_rows(CUdeviceptr p) { return {true, p, 0, 0}; }
static Rows host_rows(const void* p) { return {false, (uintptr_t)p, 0, 0}; }

// Managed memory and mapped host memory have one address on all sides.
static Rows any_rows(CUdeviceptr p) {
    return {memory.contains(p) || is_module_memory(p, 1), p, 0, 0};
}

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
    return submit("cuMemcpyHtoD", device_rows(to), host_rows(from), bytes, 1, 1, true, nullptr);
}
CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes,
                                   CUstream stream) {
    return submit("cuMemcpyHtoDAsync", device_rows(to), host_rows(from), bytes, 1, 1, false,
                  stream);
}
CUresult CUDAAPI cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
    return submit("cuMemcpyDtoH", host_rows(to), device_rows(from), bytes, 1, 1, true, nullptr);
}
CUresult CUDAAPI cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return submit("cuMemcpyDtoHAsync", host_rows(to), device_rows(from), bytes, 1, 1, false,
                  stream);
}
CUresult CUDAAPI cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return submit("cuMemcpyDtoD", device_rows(to), device_rows(from), bytes, 1, 1, false, nullptr);
}
CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                   CUstream stream) {
    return submit("cuMemcpyDtoDAsync", device_rows(to), device_rows(from), bytes, 1, 1, false,
                  stream);
}
CUresult CUDAAPI cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return submit("cuMemcpy", any_rows(to), any_rows(from), bytes, 1, 1, true, nullptr);
}

// Between devices: both must have finished what they were given before.
CUresult CUDAAPI cuMemcpyPeer(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext,
                              size_t bytes) {
    Call call;
    CUresult result = finish_all();
    if (result != CUDA_SUCCESS) return result;
    return submit("cuMemcpyPeer", device_rows(to), device_rows(from), bytes, 1, 1, true, nullptr);
}
CUresult CUDAAPI cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext,
                                   size_t bytes, CUstream stream) {
    return submit("cuMemcpyPeerAsync", device_rows(to), device_rows(from), bytes, 1, 1, false,
                  stream);
}

// Copies of rows. The driver's structures name both ends alike, so a macro fills either.
#define COPY_END(c, side, slices) \
    Rows { \
        (c)->side##MemoryType != CU_MEMORYTYPE_HOST, \
            ((c)->side##MemoryType == CU_MEMORYTYPE_HOST ? (uintptr_t)(c)->side##Host \
                                                         : (uintptr_t)(c)->side##Device) + \
                (c)->side##XInBytes + (c)->side##Y*(c)->side##Pitch, \
            (c)->side##Pitch, slices \
    }

static CUresult copy_2d(const CUDA_MEMCPY2D* c, bool wait, CUstream stream) {
    if (c->srcMemoryType == CU_MEMORYTYPE_ARRAY || c->dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return fail(CUDA_ERROR_NOT_SUPPORTED, "CUDA arrays are not emulated");
    return submit("cuMemcpy2D", COPY_END(c, dst, 0), COPY_END(c, src, 0), c->WidthInBytes,
                  c->Height, 1, wait, stream);
}
CUresult CUDAAPI cuMemcpy2D(const CUDA_MEMCPY2D* c) { return copy_2d(c, true, nullptr); }
CUresult CUDAAPI cuMemcpy2DUnaligned(const CUDA_MEMCPY2D* c) { return copy_2d(c, true, nullptr); }
CUresult CUDAAPI cuMemcpy2DAsync(const CUDA_MEMCPY2D* c, CUstream stream) {
    return copy_2d(c, false, stream);
}

static CUresult copy_3d(const CUDA_MEMCPY3D* c, bool wait, CUstream stream) {
    if (c->srcMemoryType == CU_MEMORYTYPE_ARRAY || c->dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return fail(CUDA_ERROR_NOT_SUPPORTED, "CUDA arrays are not emulated");
    Rows to = COPY_END(c, dst, c->dstPitch * c->dstHeight);
    Rows from = COPY_END(c, src, c->srcPitch * c->srcHeight);
    to.start += c->dstZ * to.slice;
    from.start += c->srcZ * from.slice;
    return submit("cuMemcpy3D", to, from, c->WidthInBytes, c->Height, c->Depth, wait, stream);
}
CUresult CUDAAPI cuMemcpy3D(const CUDA_MEMCPY3D* c) { return copy_3d(c, true, nullptr); }
CUresult CUDAAPI cuMemcpy3DAsync(const CUDA_MEMCPY3D* c, CUstream stream) {
    return copy_3d(c, false, stream);
}

template <class T>
static CUresult fill_rows(uintptr_t to, size_t pitch, T value, size_t width, size_t height) {
    for (size_t y = 0; y < height; y++) {
        uintptr_t row = to + y * pitch;
        CUresult result = check_range(row, width * sizeof(T), "a fill");
        if (result != CUDA_SUCCESS) return result;
        if (row % sizeof(T)) return fail(CUDA_ERROR_INVALID_VALUE, "a fill at a misaligned address");
        std::fill_n((T*)row, width, value);
        if (memory.contains(row)) memory.mark_written(row, width * sizeof(T));
    }
    return CUDA_SUCCESS;
}

template <class T>
static CUresult fill(CUdeviceptr to, size_t pitch, T value, size_t width, size_t height,
                     CUstream stream) {
    NEED_CONTEXT("cuMemset");
    count("fills");
    return enqueue(stream, [=] { return fill_rows<T>(to, pitch, value, width, height); });
}

CUresult prepare_fill(const CUDA_MEMSET_NODE_PARAMS& p, Work* work) {
    switch (p.elementSize) {
    case 1:
        *work = [p] { return fill_rows(p.dst, p.pitch, (uint8_t)p.value, p.width, p.height); };
        break;
    case 2:
        *work = [p] { return fill_rows(p.dst, p.pitch, (uint16_t)p.value, p.width, p.height); };
        break;
    case 4:
        *work = [p] { return fill_rows(p.dst, p.pitch, (uint32_t)p.value, p.width, p.height); };
        break;
    default: return fail(CUDA_ERROR_INVALID_VALUE, "a fill with elements of 1, 2 or 4 bytes");
    }
    if (!p.width || !p.height) return fail(CUDA_ERROR_INVALID_VALUE, "a fill of nothing");
    return CUDA_SUCCESS;
}

#define FILLS(bits, T) \
    CUresult CUDAAPI cuMemsetD##bits##_v2(CUdeviceptr to, T value, size_t n) { \
        return fill<T>(to, 0, value, n, 1, nullptr); \
    } \
    CUresult CUDAAPI cuMemsetD##bits##Async(CUdeviceptr to, T value, size_t n, CUstream stream) { \
        return fill<T>(to, 0, value, n, 1, stream); \
    } \
    CUresult CUDAAPI cuMemsetD2D##bits##_v2(CUdeviceptr to, size_t pitch, T value, size_t width, \
                                            size_t height) { \
        return fill<T>(to, pitch, value, width, height, nullptr); \
    } \
    CUresult CUDAAPI cuMemsetD2D##bits##Async(CUdeviceptr to, size_t pitch, T value, size_t width, \
                                              size_t height, CUstream stream) { \
        return fill<T>(to, pitch, value, width, height, stream); \
    }
#undef cuMemsetD8
#undef cuMemsetD16
#undef cuMemsetD32
FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned int)
