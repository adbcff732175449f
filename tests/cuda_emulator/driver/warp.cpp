// What the lanes of a warp do together: they wait for one another, then the last to come works out
// the results of all.
#include <algorithm>

#include "execution.h"
#include "failure.h"
#include "options.h"

static const char* const NAMES[] = {
    "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",
    "__shfl_down_sync",  "__shfl_xor_sync",   "a vote",
    "__match_any_sync",  "__match_all_sync",  "__reduce_add_sync",
    "__reduce_min_sync", "__reduce_max_sync", "__reduce_min_sync",
    "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync",
    "__reduce_xor_sync",
};

// The lane whose value a lane takes; a lane that would reach out of its part of the warp keeps its
// own.
static int source_lane(const Thread& t, int lane) {
    int first = lane & ~(t.width - 1), end = first + t.width;
    int source = lane;
    switch (t.operation) {
    case BRAZE_SHUFFLE: return first + (t.operand & (t.width - 1));
    case BRAZE_SHUFFLE_UP: source = lane - t.operand; return source < first ? lane : source;
    case BRAZE_SHUFFLE_DOWN: source = lane + t.operand; return source >= end ? lane : source;
    default: source = lane ^ t.operand; return source >= end ? lane : source;
    }
}

static uint64_t combine(int operation, uint64_t a, uint64_t b) {
    switch (operation) {
    case BRAZE_REDUCE_ADD: return a + b;
    case BRAZE_REDUCE_MIN_SIGNED: return (uint64_t)std::min((int64_t)a, (int64_t)b);
    case BRAZE_REDUCE_MAX_SIGNED: return (uint64_t)std::max((int64_t)a, (int64_t)b);
    case BRAZE_REDUCE_MIN: return std::min(a, b);
    case BRAZE_REDUCE_MAX: return std::max(a, b);
    case BRAZE_REDUCE_AND: return a & b;
    case BRAZE_REDUCE_OR: return a | b;
    default: return a ^ b;
    }
}

// The operations whose result all lanes share: a mask of lanes, or a reduction.
static uint64_t common_result(const Thread* lanes, int operation, unsigned mask) {
    uint64_t first = lanes[__builtin_ctz(mask)].value;
    uint64_t ballot = 0, matching = mask, reduced = first;
    for (unsigned left = mask; left; left &= left - 1) {
        int lane = __builtin_ctz(left);
        ballot |= (uint64_t)(lanes[lane].value != 0) << lane;
        if (lanes[lane].value != first) matching = 0;
        if (left != mask) reduced = combine(operation, reduced, lanes[lane].value);
    }
    return operation == BRAZE_BALLOT ? ballot : operation == BRAZE_MATCH_ALL ? matching : reduced;
}

static uint64_t lanes_of_value(const Thread* lanes, unsigned mask, uint64_t value) {
    uint64_t result = 0;
    for (unsigned left = mask; left; left &= left - 1)
        if (lanes[__builtin_ctz(left)].value == value) result |= left & -left;
    return result;
}

static void check_call(const Thread& t, unsigned lanes_of_warp, const void* site) {
    int lane = t.index % 32;
    const char* name = NAMES[t.operation];
    std::string what;
    if (!(t.mask >> lane & 1))
        what = format("%s with mask 0x%08x, which lacks the calling lane %d", name, t.mask, lane);
    else if (lanes_of_warp < 32 && t.mask >> lanes_of_warp)
        what =
            format("%s with mask 0x%08x, but this warp has %u lanes", name, t.mask, lanes_of_warp);
    else if (t.width < 1 || t.width > 32 || (t.width & (t.width - 1)))
        what = format("%s with width %d, which is no power of two up to 32", name, t.width);
    if (!what.empty()) execution.thread_failed(CUDA_ERROR_LAUNCH_FAILED, what, site);
}

// Whether all lanes of the mask are there; fails if one of them cannot come.
static bool complete(const Thread* lanes, const Thread& t, const void* site) {
    bool all = true;
    for (unsigned left = t.mask; left; left &= left - 1) {
        int lane = __builtin_ctz(left);
        const Thread& other = lanes[lane];
        const char* name = NAMES[t.operation];
        std::string what;
        if (other.waiting == Waiting::ended)
            what = format("%s with mask 0x%08x, but lane %d has ended", name, t.mask, lane);
        else if (&other == &t || (other.waiting == Waiting::in_warp && other.mask == t.mask &&
                                  other.operation == t.operation))
            continue;
        else if (other.waiting == Waiting::in_warp)
            what = format("%s with mask 0x%08x, but lane %d waits in %s with mask 0x%08x at %s",
                          name, t.mask, lane, NAMES[other.operation], other.mask,
                          source_line(other.site).c_str());
        else all = false;
        if (!what.empty()) execution.thread_failed(CUDA_ERROR_LAUNCH_FAILED, what, site);
    }
    return all;
}

static void shuffle(Thread* lanes, unsigned mask, const void* site) {
    for (unsigned left = mask; left; left &= left - 1) {
        int lane = __builtin_ctz(left), source = source_lane(lanes[lane], lane);
        if (!(mask >> source & 1))
            execution.thread_failed(
                CUDA_ERROR_LAUNCH_FAILED,
                format("%s: lane %d takes the value of lane %d, which mask 0x%08x lacks",
                       NAMES[lanes[lane].operation], lane, source, mask),
                site);
        lanes[lane].result = lanes[source].value;
    }
}

uint64_t braze_warp(int operation, unsigned mask, uint64_t value, int operand, int width) {
    Execution& e = execution;
    const void* site = __builtin_return_address(0);
    Thread& t = *e.thread;
    t.operation = operation;
    t.mask = mask;
    t.value = value;
    t.operand = operand;
    t.width = width;
    unsigned first = t.index / 32 * 32;
    Thread* lanes = &e.threads[first];
    check_call(t, std::min(32u, e.count - first), site);
    if (!complete(lanes, t, site)) {
        e.wait(Waiting::in_warp, site);
        return t.result;
    }
    if (operation == BRAZE_SYNC) {
        ++e.stamp;
        for (unsigned left = mask; left; left &= left - 1)
            lanes[__builtin_ctz(left)].synchronised = e.stamp;
    } else if (operation <= BRAZE_SHUFFLE_XOR) {
        shuffle(lanes, mask, site);
    } else {
        uint64_t common = common_result(lanes, operation, mask);
        for (unsigned left = mask; left; left &= left - 1) {
            Thread& lane = lanes[__builtin_ctz(left)];
            lane.result =
                operation == BRAZE_MATCH_ANY ? lanes_of_value(lanes, mask, lane.value) : common;
        }
    }
    // The lanes go on before the rest of the block, in its order.
    bool ascending = options.order == Order::reverse;
    for (int i = 0; i < 32; i++) {
        int lane = ascending ? i : 31 - i;
        if (!(mask >> lane & 1)) continue;
        lanes[lane].waiting = Waiting::no;
        e.make_ready_first(first + (unsigned)lane);
    }
    e.go_on(e.next_ready());
    return t.result;
}
