// The part of NCCL's interface that is emulated, and what of the emulated driver it stands on.
#pragma once

#include <cuda.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {

typedef struct ncclComm* ncclComm_t;
struct ncclUniqueId {
    char internal[128];
};
// As far as it is read: whether calls wait until they are done.
struct ncclConfig_t {
    size_t size;
    unsigned magic, version;
    int blocking;
};
enum ncclResult_t {
    ncclSuccess,
    ncclUnhandledCudaError,
    ncclSystemError,
    ncclInternalError,
    ncclInvalidArgument,
    ncclInvalidUsage,
    ncclRemoteError,
    ncclInProgress,
};
enum ncclDataType_t {
    ncclInt8,
    ncclUint8,
    ncclInt32,
    ncclUint32,
    ncclInt64,
    ncclUint64,
    ncclFloat16,
    ncclFloat32,
    ncclFloat64,
    ncclBfloat16,
    ncclNumTypes,
};
enum ncclRedOp_t { ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg, ncclNumOps };

// Of driver/external.cpp.
int braze_external_work(CUstream stream, int (*run)(void*), void* argument);
int braze_external_access(int device, uintptr_t address, size_t bytes, int write, char* text,
                          size_t size);
void braze_external_written(uintptr_t address, size_t bytes);
}
