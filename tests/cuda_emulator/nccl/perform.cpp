// What operations do with the data, once it is their turn on their stream.
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "communicator.h"
#include "reduction.h"

bool ncclComm::barrier() {
    uint64_t own = ++slot(rank).steps;
    for (int r = 0; r < size; r++)
        for (int looks = 0; slot(r).steps < own; looks++) {
            if (is_over()) return false;
            if (looks > 20) usleep(50);
        }
    return true;
}

static ncclResult_t given_up(ncclComm_t comm) {
    return comm->fail(ncclRemoteError, "the communicator was aborted");
}

static std::string text_of(const Described& call) {
    static const char* KINDS[] = {"all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter"};
    return std::string(KINDS[call.kind]) + " of " + std::to_string(call.count) + " " +
           name_of(call.type) + ", reduction " + std::to_string(call.reduction) + ", root " +
           std::to_string(call.root);
}

// Ranks show what they call; different calls, which NCCL may hang in, are a fault here.
static ncclResult_t compare_calls(const Operation& op) {
    ncclComm_t comm = op.comm;
    comm->slot(comm->rank).call = {op.kind, op.type, op.reduction, op.peer, op.count};
    if (!comm->barrier()) return given_up(comm);
    for (int r = 1; r < comm->size; r++)
        if (!(comm->slot(r).call == comm->slot(0).call))
            return comm->fail(ncclInvalidUsage,
                              "ranks differ: 0 calls " + text_of(comm->slot(0).call) + "; " +
                                  std::to_string(r) + " calls " + text_of(comm->slot(r).call));
    return ncclSuccess;
}

static ncclResult_t access(const Operation& op, const void* address, size_t count, bool write) {
    char text[400];
    if (!braze_external_access(op.comm->device, (uintptr_t)address, count * bytes_of(op.type),
                               write, text, sizeof text))
        return ncclSuccess;
    return op.comm->fail(ncclInvalidArgument, text);
}

static void written(const Operation& op, size_t count) {
    braze_external_written((uintptr_t)op.kept, count * bytes_of(op.type));
}

static bool reads(const Operation& op) { return op.kind != BROADCAST || op.comm->rank == op.peer; }
static bool writes(const Operation& op) { return op.kind != REDUCE || op.comm->rank == op.peer; }

static void reduce_slots(const Operation& op, char* to, size_t count) {
    std::vector<char> sum(op.comm->slot(0).data, op.comm->slot(0).data + count * bytes_of(op.type));
    for (int r = 1; r < op.comm->size; r++)
        combine(op.type, op.reduction, sum.data(), op.comm->slot(r).data, count);
    if (op.reduction == ncclAvg) divide(op.type, sum.data(), count, op.comm->size);
    memcpy(to, sum.data(), sum.size());
}

// One part of the data, chunk by chunk: ranks show theirs, meet, take what they need, and meet.
static bool exchange(const Operation& op, int part) {
    ncclComm_t comm = op.comm;
    size_t size = bytes_of(op.type), chunk = CHUNK / size;
    const char* given = op.given + (op.kind == REDUCE_SCATTER ? part * op.count * size : 0);
    for (size_t at = 0; at < op.count; at += chunk) {
        size_t count = std::min(chunk, op.count - at);
        if (reads(op)) memcpy(comm->slot(comm->rank).data, given + at * size, count * size);
        if (!comm->barrier()) return false;
        char* to = op.kept + at * size;
        switch (op.kind) {
        case BROADCAST: memcpy(to, comm->slot(op.peer).data, count * size); break;
        case ALL_GATHER:
            for (int r = 0; r < comm->size; r++)
                memcpy(to + r * op.count * size, comm->slot(r).data, count * size);
            break;
        case REDUCE_SCATTER:
            if (part == comm->rank) reduce_slots(op, to, count);
            break;
        default:
            if (writes(op)) reduce_slots(op, to, count);
        }
        if (!comm->barrier()) return false;
    }
    return true;
}

static ncclResult_t collective(const Operation& op) {
    ncclResult_t result = compare_calls(op);
    if (result) return result;
    size_t ranks = (size_t)op.comm->size;
    if (reads(op))
        result = access(op, op.given, op.count * (op.kind == REDUCE_SCATTER ? ranks : 1), false);
    if (!result && writes(op))
        result = access(op, op.kept, op.count * (op.kind == ALL_GATHER ? ranks : 1), true);
    if (result) {
        op.comm->segment->aborted = 1;  // the others would wait for it
        return result;
    }
    for (int part = 0; part < (op.kind == REDUCE_SCATTER ? op.comm->size : 1); part++)
        if (!exchange(op, part)) return given_up(op.comm);
    if (writes(op)) written(op, op.count * (op.kind == ALL_GATHER ? ranks : 1));
    return ncclSuccess;
}

// A message under way.
struct Message {
    const Operation* op;
    size_t done = 0;
    bool over = false;

    bool step(ncclResult_t* result);
};

// Whether it got on.
bool Message::step(ncclResult_t* result) {
    ncclComm_t comm = op->comm;
    size_t size = bytes_of(op->type), part = std::min(CHUNK / size, op->count - done);
    bool sends = op->kind == SEND;
    Mailbox& box = sends ? comm->segment->boxes[comm->rank][op->peer]
                         : comm->segment->boxes[op->peer][comm->rank];
    if (box.full == sends) return false;
    if (sends) {
        box.type = op->type;
        box.count = op->count;
        if (part) memcpy(box.data, op->given + done * size, part * size);
    } else if (box.type != op->type || box.count != op->count) {
        comm->segment->aborted = 1;
        *result = comm->fail(ncclInvalidUsage,
                            "rank " + std::to_string(op->peer) + " sends " +
                                std::to_string(box.count) + " " + name_of(box.type) + ", " +
                                std::to_string(op->count) + " " + name_of(op->type) +
                                " are to be received");
        return true;
    } else if (part) {
        memcpy(op->kept + done * size, box.data, part * size);
    }
    box.full = sends;
    done += part;
    over = done == op->count;
    return true;
}

// All messages at once; those between two ranks in one direction keep their order.
static ncclResult_t deliver(const std::vector<const Operation*>& ops) {
    std::map<std::pair<ncclComm_t, std::pair<int, int>>, std::vector<Message>> lines;
    for (const Operation* op : ops) {
        bool sends = op->kind == SEND;
        ncclResult_t result = access(*op, sends ? op->given : op->kept, op->count, !sends);
        if (result) return result;
        lines[{op->comm, {op->kind, op->peer}}].push_back({op});
    }
    ncclResult_t result = ncclSuccess;
    while (!lines.empty()) {
        bool moved = false;
        for (auto line = lines.begin(); line != lines.end();) {
            if (line->first.first->is_over()) return given_up(line->first.first);
            Message& head = line->second.front();
            moved |= head.step(&result);
            if (result) return result;
            if (head.over && head.op->kind == RECEIVE) written(*head.op, head.op->count);
            if (head.over) line->second.erase(line->second.begin());
            line = line->second.empty() ? lines.erase(line) : std::next(line);
        }
        if (!moved) usleep(50);
    }
    return ncclSuccess;
}

static ncclResult_t perform_all(const Operation* first, size_t count) {
    std::vector<const Operation*> messages;
    for (const Operation* op = first; op != first + count; op++) {
        if (op->kind == SEND || op->kind == RECEIVE) {
            messages.push_back(op);
            continue;
        }
        ncclResult_t result = collective(*op);
        if (result) return result;
    }
    return deliver(messages);
}

ncclResult_t perform(const Operation* first, size_t count) {
    ncclComm_t comm = first->comm;
    if (comm->performing.exchange(true))
        return comm->fail(ncclInvalidUsage, "two streams use the communicator at once");
    ncclResult_t result = perform_all(first, count);
    comm->performing = false;
    return result;
}
