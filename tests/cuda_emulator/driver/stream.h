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
    };
    int device;
    bool blocking;  // waits for the default stream, and is waited for by it
    std::deque<Item> work;
    bool busy = false;  // a thread does work of it without the driver's lock
};

// Gives work to a stream of the current context; null is its default stream.
CUresult enqueue(CUstream stream, Work work);

// Gives a stream work that waits for other processes: while it runs, other threads may call the
// driver, to which the stream is not ready. See nccl/.
CUresult enqueue_external(CUstream stream, Work work);

// Waits until a stream, or all streams of a device, or of all devices, have no work left. Returns
// the first failure.
CUresult finish_stream(CUstream stream);
CUresult finish_device(int device);
CUresult finish_all();
