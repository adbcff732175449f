// Streams: what is given to one is done in order, at once or, with the option LAZY, when waited
// for.
#pragma once

#include <cuda.h>
#include <stdint.h>

#include <deque>
#include <functional>

typedef std::function<CUresult()> Work;

struct CUstream_st {
    struct Item {
        uint64_t number;  // in the order in which all streams were given work
        Work run;
        bool is_work = true;  // and no event, or wait for one
        CUstream other = nullptr;  // which must have come so far before
        uint64_t reached = 0;
    };
    // What another library's work has written, which the others may use once they have waited.
    struct Unseen {
        uint64_t number;
        uintptr_t address;
        size_t bytes;
    };
    int device;
    bool blocking;  // waits for the default stream, and is waited for by it
    std::deque<Item> work;
    uint64_t busy = 0;  // the number of the work that a thread does without the driver's lock
    CUresult failed = CUDA_SUCCESS;  // of such work, until somebody waits
    std::deque<Unseen> unseen;
};

// Gives work to a stream of the current context; null is its default stream.
CUresult enqueue(CUstream stream, Work work);

// Gives a stream work that waits for other processes, which a thread of its own does: other threads
// may call the driver meanwhile, to which the stream is not ready. See nccl/.
CUresult enqueue_external(CUstream stream, Work work);

// The work that the calling thread does for a stream has written bytes. Until somebody has waited for
// it, or more work of the stream begins, they count as unwritten.
void written_unseen(uintptr_t address, size_t bytes);

// Waits until a stream, or all streams of a device, or of all devices, have no work left. Returns
// the first failure.
CUresult finish_stream(CUstream stream);
CUresult finish_device(int device);
CUresult finish_all();
