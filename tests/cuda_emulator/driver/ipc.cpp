// Calls that share device memory between processes.
//
// Each device of a process has a file without a name, made when memory of it is first shared. Its
// first half holds shared memory, at its distance from the device's first byte; the pages of what is
// not shared are holes. Its second half says who has memory open: at an allocation's distance from
// the middle, process ids. A handle names the file by the process and its descriptor there.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <string>

#include "context.h"
#include "failure.h"
#include "ipc.h"
#include "memory.h"
#include "stream.h"

// What the bytes of a handle mean.
struct Handle {
    char mark[8];
    pid_t process;
    int file, device;
    uint64_t offset, bytes, serial;
};
static_assert(sizeof(Handle) <= sizeof(CUipcMemHandle));
static const char MARK[8] = "emulate";

// Who has an allocation open; allocations begin at multiples of so many bytes.
struct Users {
    pid_t processes[128];
};
static_assert(sizeof(Users) == 512);

static int files[Memory::MOST_DEVICES];
static pid_t files_owner;

static int file_of(int device) {
    if (files_owner != getpid()) {
        memset(files, 0, sizeof files);
        files_owner = getpid();
    }
    if (!files[device]) {
        int file = memfd_create("emulated-cuda", MFD_CLOEXEC);
        if (file < 0 || ftruncate(file, (off_t)(2 * Memory::DEVICE_BYTES))) return -1;
        files[device] = file;
    }
    return files[device];
}

static CUresult no_file(const char* what) {
    return fail(CUDA_ERROR_OUT_OF_MEMORY, format("%s: %s", what, strerror(errno)));
}

static bool is_alive(pid_t process) { return !kill(process, 0) || errno == EPERM; }

bool is_open_elsewhere(const Allocation& own) {
    if (!own.shared) return false;
    Users users;
    off_t at = (off_t)(Memory::DEVICE_BYTES + own.start - memory.first(own.device));
    if (pread(file_of(own.device), &users, sizeof users, at) != sizeof users) return false;
    for (pid_t process : users.processes)
        if (process && is_alive(process)) return true;
    return false;
}

CUresult CUDAAPI cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr pointer) {
    NEED_CONTEXT("cuIpcGetMemHandle");
    const Allocation* own = memory.find(pointer);
    if (!own || own->start != pointer)
        return fail(CUDA_ERROR_INVALID_VALUE, "shares " + memory.describe(pointer) +
                                                  ", and not an allocation from its beginning");
    if (own->foreign)
        return fail(CUDA_ERROR_INVALID_VALUE, "shares memory of another process");
    CUresult result = finish_device(own->device);  // what runs later finds it at its old pages, too
    if (result != CUDA_SUCCESS) return result;
    int file = file_of(own->device);
    if (file < 0 || !memory.share(own->start, file)) return no_file("cannot share memory");
    Handle said = {{}, getpid(), file, own->device, own->start - memory.first(own->device),
                   own->bytes, own->serial};
    memcpy(said.mark, MARK, sizeof MARK);
    memset(handle, 0, sizeof *handle);
    memcpy(handle, &said, sizeof said);
    count("shared allocations");
    return CUDA_SUCCESS;
}

// Memory of other processes that is open here.
struct Opened {
    std::string handle;
    int times;
    Users* users;
};
static std::map<uintptr_t, Opened> opened;

static bool enter(Users* users) {
    for (pid_t& process : users->processes) {
        pid_t found = __atomic_load_n(&process, __ATOMIC_SEQ_CST);
        if (found && is_alive(found)) continue;
        if (__atomic_compare_exchange_n(&process, &found, getpid(), false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            return true;
    }
    return false;
}

static CUresult open_file(const Handle& said, const CUipcMemHandle& handle, CUdeviceptr* pointer) {
    std::string path = format("/proc/%d/fd/%d", said.process, said.file);
    int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (file < 0)
        return fail(CUDA_ERROR_INVALID_VALUE,
                    format("process %d, which shared the memory, has ended", said.process));
    void* users = mmap(nullptr, 8 * sizeof(Users), PROT_READ | PROT_WRITE, MAP_SHARED, file,
                       (off_t)((Memory::DEVICE_BYTES + said.offset) / 4096 * 4096));
    uintptr_t start =
        users == MAP_FAILED ? 0 : memory.attach(said.device, file, said.offset, said.bytes);
    close(file);
    if (!start) return no_file("cannot map another process's memory");
    Users* own = (Users*)((char*)users + said.offset % 4096);
    if (!enter(own)) return fail(CUDA_ERROR_OUT_OF_MEMORY, "128 processes have the memory open");
    opened[start] = {std::string((const char*)&handle, sizeof handle), 1, own};
    *pointer = start;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuIpcOpenMemHandle(CUdeviceptr* pointer, CUipcMemHandle handle, unsigned flags) {
    NEED_CONTEXT("cuIpcOpenMemHandle");
    Handle said;
    memcpy(&said, &handle, sizeof said);
    if (memcmp(said.mark, MARK, sizeof MARK))
        return fail(CUDA_ERROR_INVALID_HANDLE, "no handle of shared memory");
    if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
        return fail(CUDA_ERROR_INVALID_VALUE, "flags must be LAZY_ENABLE_PEER_ACCESS");
    if (said.process == getpid())
        return fail(CUDA_ERROR_INVALID_CONTEXT, "the memory was allocated in this process");
    if (said.device != context->device)
        return fail(CUDA_ERROR_INVALID_CONTEXT,
                    format("the memory is on device %d, the context on device %d", said.device,
                           context->device));
    for (auto& item : opened)
        if (!memcmp(item.second.handle.data(), &handle, sizeof handle)) {
            item.second.times++;
            *pointer = item.first;
            return CUDA_SUCCESS;
        }
    count("opened allocations");
    return open_file(said, handle, pointer);
}

CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr pointer) {
    NEED_CONTEXT("cuIpcCloseMemHandle");
    auto at = opened.find(pointer);
    if (at == opened.end())
        return fail(CUDA_ERROR_INVALID_VALUE, "closes " + memory.describe(pointer));
    if (--at->second.times) return CUDA_SUCCESS;
    CUresult result = finish_device(memory.device_of(pointer));
    memory.release(pointer);
    for (pid_t& process : at->second.users->processes) {
        pid_t own = getpid();
        if (__atomic_compare_exchange_n(&process, &own, 0, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            break;
    }
    munmap((void*)((uintptr_t)at->second.users / 4096 * 4096), 8 * sizeof(Users));
    opened.erase(at);
    count("closed allocations");
    return result;
}
