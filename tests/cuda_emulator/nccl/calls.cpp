// An emulated NCCL: its calls, as far as Braze makes them. Ranks are processes of one machine.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "communicator.h"
#include "reduction.h"

static thread_local std::string last_error;
static thread_local int depth;  // of groups
static thread_local std::vector<Operation> grouped;

ncclResult_t nccl_fail(ncclResult_t code, const std::string& text) {
    last_error = text;
    return code;
}

ncclResult_t ncclComm::fail(ncclResult_t code, const std::string& text) {
    std::lock_guard lock(mutex);
    said = text;
    state = code;
    return nccl_fail(code, text);
}

std::string ncclComm::text() {
    std::lock_guard lock(mutex);
    return said;
}

struct Batch {
    std::vector<Operation> operations;
    ncclResult_t result = ncclSuccess;
    std::atomic<bool> is_done{false};
};

typedef std::shared_ptr<Batch> Held;

static int run_batch(void* argument) {
    std::unique_ptr<Held> batch((Held*)argument);
    auto& operations = (*batch)->operations;
    (*batch)->result = perform(operations.data(), operations.size());
    (*batch)->is_done = true;
    return CUDA_SUCCESS;  // NCCL's kernels end in order also where the communicator fails
}

// Gives the operations to their streams. Where the driver does work at once, tells how it went.
static ncclResult_t give(std::vector<Operation> operations) {
    ncclResult_t result = ncclSuccess;
    while (!operations.empty() && !result) {
        CUstream stream = operations.front().stream;
        auto batch = std::make_shared<Batch>();
        std::vector<Operation> others;
        for (auto& op : operations) (op.stream == stream ? batch->operations : others).push_back(op);
        operations = std::move(others);
        if (braze_external_work(stream, run_batch, new Held(batch)) && !batch->is_done)
            return nccl_fail(ncclUnhandledCudaError, "the driver refuses the work");
        if (batch->is_done && batch->result)
            result = nccl_fail(batch->result, batch->operations.front().comm->text());
    }
    return result;
}

// Where calls wait, gives the operations to their streams; else, once somebody asks for them.
static ncclResult_t begin(std::vector<Operation> operations) {
    if (operations.empty()) return ncclSuccess;
    ncclComm_t comm = operations.front().comm;
    if (comm->waits) return give(std::move(operations));
    comm->called = std::move(operations);
    comm->asked = 0;
    comm->state = ncclInProgress;
    return ncclInProgress;
}

static ncclResult_t call(Operation op) {
    if (!op.comm) return nccl_fail(ncclInvalidArgument, "no communicator");
    if (op.comm->is_over()) return nccl_fail(ncclInvalidUsage, "the communicator was aborted");
    if (op.comm->state == ncclInProgress)
        return op.comm->fail(ncclInvalidArgument,
                             "Attempt to use communicator before the previous operation returned "
                             "ncclSuccess");
    if (op.type < 0 || op.type >= ncclNumTypes)
        return nccl_fail(ncclInvalidArgument, "no such type: " + std::to_string(op.type));
    if (op.reduction < 0 || op.reduction >= ncclNumOps)
        return nccl_fail(ncclInvalidArgument, "no such reduction: " + std::to_string(op.reduction));
    if (op.peer < 0 || op.peer >= op.comm->size)
        return nccl_fail(ncclInvalidArgument, "no such rank: " + std::to_string(op.peer));
    CUdevice device;
    if (cuCtxGetDevice(&device) || device != op.comm->device)
        return nccl_fail(ncclInvalidUsage, "the current context is not of the communicator's device");
    if (depth) {
        grouped.push_back(op);
        return ncclSuccess;
    }
    return begin({op});
}

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
    *version = 22809;
    return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
    static const char* TEXTS[] = {"no error",
                                  "unhandled cuda error",
                                  "unhandled system error",
                                  "internal error",
                                  "invalid argument",
                                  "invalid usage",
                                  "remote process exited or there was a network error",
                                  "NCCL operation in progress"};
    return result >= 0 && result <= ncclInProgress ? TEXTS[result] : "unknown result code";
}

const char* ncclGetLastError(ncclComm_t comm) {
    static thread_local std::string text;
    text = comm ? comm->text() : last_error;
    return text.c_str();
}

// Removes what ranks left behind that died before all had met.
static void remove_left_over() {
    DIR* folder = opendir("/dev/shm");
    if (folder == nullptr) return;
    while (dirent* entry = readdir(folder)) {
        int pid = 0;
        if (sscanf(entry->d_name, "emulated-nccl-%d-", &pid) == 1 && kill(pid, 0) && errno == ESRCH)
            unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    remove_left_over();
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return ncclSystemError;
    memset(id, 0, sizeof *id);
    sprintf(id->internal, "/emulated-nccl-%d-", int(getpid()));
    for (unsigned char byte : bytes) sprintf(id->internal + strlen(id->internal), "%02x", byte);
    return ncclSuccess;
}

// Meets the other ranks.
static ncclResult_t connect(ncclComm_t comm) {
    if (!comm->barrier()) return comm->fail(ncclRemoteError, "a rank has given up");
    shm_unlink(comm->path.c_str());  // all have it: the memory goes with the last process
    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank && comm->slot(r).device == comm->device)
            return comm->fail(ncclInvalidUsage, "Duplicate GPU detected: rank " +
                                                    std::to_string(comm->rank) + " and rank " +
                                                    std::to_string(r) + " both on CUDA device " +
                                                    std::to_string(comm->device));
    comm->state = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
    CUdevice device;
    if (cuCtxGetDevice(&device)) return nccl_fail(ncclUnhandledCudaError, "no current context");
    if (size < 1 || size > MOST_RANKS || rank < 0 || rank >= size)
        return nccl_fail(ncclInvalidArgument, "there is no such rank");
    int file = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof(Segment)))
        return nccl_fail(ncclSystemError, "no shared memory");
    void* segment = mmap(nullptr, sizeof(Segment), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (segment == MAP_FAILED) return nccl_fail(ncclSystemError, "no shared memory");
    ncclComm_t comm = *made = new ncclComm{rank, size, device, id.internal, (Segment*)segment};
    comm->waits = !config || config->blocking;
    comm->slot(rank).device = device;
    if (comm->waits) return connect(comm);
    comm->state = ncclInProgress;
    std::thread(connect, comm).detach();
    return ncclInProgress;
}

ncclResult_t ncclCommInitRank(ncclComm_t* made, int size, ncclUniqueId id, int rank) {
    return ncclCommInitRankConfig(made, size, id, rank, nullptr);
}

ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
    *count = comm->size;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
    *rank = comm->rank;
    return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(ncclComm_t comm, int* device) {
    *device = comm->device;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
    if (!comm->called.empty() && ++comm->asked > 1) {
        ncclResult_t result = give(std::exchange(comm->called, {}));
        int before = ncclInProgress;  // unless it has failed meanwhile
        comm->state.compare_exchange_strong(before, result);
    }
    *error = (ncclResult_t)comm->state.load();
    return ncclSuccess;
}

// Local: other ranks are to find out by themselves. What waits in this process ends.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    comm->aborted = true;
    return ncclSuccess;
}

// The few bytes stay, since a stream may still look at them.
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    comm->aborted = true;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    if (!depth) return nccl_fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--depth) return ncclSuccess;
    return begin(std::exchange(grouped, {}));
}

ncclResult_t ncclAllReduce(const void* given, void* kept, size_t count, ncclDataType_t type,
                           ncclRedOp_t reduction, ncclComm_t comm, CUstream stream) {
    return call({ALL_REDUCE, (const char*)given, (char*)kept, count, type, reduction, 0, comm, stream});
}

ncclResult_t ncclReduce(const void* given, void* kept, size_t count, ncclDataType_t type,
                        ncclRedOp_t reduction, int root, ncclComm_t comm, CUstream stream) {
    return call({REDUCE, (const char*)given, (char*)kept, count, type, reduction, root, comm, stream});
}

ncclResult_t ncclBroadcast(const void* given, void* kept, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, CUstream stream) {
    return call({BROADCAST, (const char*)given, (char*)kept, count, type, ncclSum, root, comm, stream});
}

ncclResult_t ncclAllGather(const void* given, void* kept, size_t count, ncclDataType_t type,
                           ncclComm_t comm, CUstream stream) {
    return call({ALL_GATHER, (const char*)given, (char*)kept, count, type, ncclSum, 0, comm, stream});
}

ncclResult_t ncclReduceScatter(const void* given, void* kept, size_t count, ncclDataType_t type,
                               ncclRedOp_t reduction, ncclComm_t comm, CUstream stream) {
    return call(
        {REDUCE_SCATTER, (const char*)given, (char*)kept, count, type, reduction, 0, comm, stream});
}

ncclResult_t ncclSend(const void* given, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, CUstream stream) {
    return call({SEND, (const char*)given, nullptr, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclRecv(void* kept, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      CUstream stream) {
    return call({RECEIVE, nullptr, (char*)kept, count, type, ncclSum, peer, comm, stream});
}
}
