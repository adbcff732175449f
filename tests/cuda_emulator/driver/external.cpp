// What a library beside the driver needs of it: work of its own on a stream, and checks of memory.
#include <stdio.h>

#include "context.h"
#include "failure.h"
#include "memory.h"
#include "stream.h"

extern "C" {

// Gives a stream of the current context work that may wait for other processes. A stream that does
// not keep order with the default stream does it while the program goes on.
int braze_external_work(CUstream stream, int (*run)(void*), void* argument) {
    NEED_CONTEXT("work of another library");
    return enqueue_external(stream, [run, argument] { return (CUresult)run(argument); });
}

// Zero if bytes are memory of a device that may be read, or written; else `text` says what is
// wrong.
int braze_external_access(int device, uintptr_t address, size_t bytes, int write, char* text,
                          size_t size) {
    Call call;
    if (!bytes) return 0;
    uintptr_t bad = address;
    std::string wrong;
    if (!memory.contains(address)) {
        wrong = format("0x%lx is no memory of a device", address);
    } else if (memory.device_of(address) != device) {
        wrong = format("0x%lx is memory of device %d, the communicator is of device %d", address,
                       memory.device_of(address), device);
    } else if (!memory.all(address, bytes, ALLOCATED, &bad)) {
        wrong = format("%zu bytes at 0x%lx reach %s", bytes, address, memory.describe(bad).c_str());
    } else if (!write && !memory.all(address, bytes, WRITTEN, &bad)) {
        wrong = "nobody wrote what is read: " + memory.describe(bad);
    }
    if (!wrong.empty()) {
        snprintf(text, size, "%s", wrong.c_str());
        return 1;
    }
    return 0;
}

// The calling thread, which does work for a stream, has written them.
void braze_external_written(uintptr_t address, size_t bytes) {
    Call call;
    written_unseen(address, bytes);
}
}
