// A communicator: ranks, each of one process, that move data through a file in shared memory.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "api.h"

static const int MOST_RANKS = 16;
static const size_t CHUNK = 1 << 16;  // bytes that a rank shows, or sends, at a time

enum Kind { ALL_REDUCE, REDUCE, BROADCAST, ALL_GATHER, REDUCE_SCATTER, SEND, RECEIVE };

// One call. `count` is of a rank's part where there are parts.
struct Operation {
    Kind kind;
    const char* given;
    char* kept;
    size_t count;
    int type, reduction, peer;  // peer: the root, or the other end of a message
    ncclComm_t comm;
    CUstream stream;
};

// What ranks compare, so that different calls are not mistaken for one.
struct Described {
    int kind, type, reduction, root;
    size_t count;
    bool operator==(const Described&) const = default;
};

struct Slot {
    std::atomic<uint64_t> steps;  // how many barriers the rank has come to
    int device;
    Described call;
    alignas(16) char data[CHUNK];
};

struct Mailbox {
    std::atomic<uint32_t> full;
    int type;
    size_t count;  // of the whole message
    alignas(16) char data[CHUNK];
};

struct Segment {
    std::atomic<int> aborted, left;
    Slot slots[MOST_RANKS];
    Mailbox boxes[MOST_RANKS][MOST_RANKS];  // from, to
};

struct ncclComm {
    int rank, size, device;
    std::string path;
    Segment* segment;
    std::atomic<bool> aborted{false};
    bool waits = true;  // its calls do, until they are done
    std::atomic<int> state{ncclSuccess};
    std::atomic<bool> performing{false};
    // Of a call that does not wait, until it is asked twice how far it is: so what is given to the
    // stream without asking comes before it.
    std::vector<Operation> called;
    int asked = 0;

    std::mutex mutex;
    std::string said;  // for ncclGetLastError

    // Sets the state and what is said of it; gives the code.
    ncclResult_t fail(ncclResult_t code, const std::string& text);
    std::string text();

    Slot& slot(int r) { return segment->slots[r]; }
    // All ranks come here; false once the communicator is given up.
    bool barrier();
    bool is_over() const { return aborted || segment->aborted; }
};

// Notes the text for ncclGetLastError of no communicator, and returns the code.
ncclResult_t nccl_fail(ncclResult_t code, const std::string& text);

// Does the operations of a group that are for one stream, in their order; messages go on together.
ncclResult_t perform(const Operation* first, size_t count);
