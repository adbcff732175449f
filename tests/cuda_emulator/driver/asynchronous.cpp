// Copies from global to shared memory that go on while the thread does other things. Here they are
// done as late as may be, when the thread waits for them, so what is not waited for does not come.
//
// Where they go is written twice: when the copy is asked for, so that a thread that still reads
// what lies there is found, and when it is done, so that one that reads before a barrier is. In
// between nobody has written it.
#include <string.h>

#include "access.h"
#include "failure.h"
#include "memory.h"
#include "options.h"
#include "profile.h"

static void check_places(const Copy& copy) {
    Execution& e = execution;
    uintptr_t to = (uintptr_t)copy.to, from = (uintptr_t)copy.from;
    if (copy.bytes != 4 && copy.bytes != 8 && copy.bytes != 16)
        e.thread_failed(CUDA_ERROR_LAUNCH_FAILED,
                        format("copies %u bytes at once, not 4, 8 or 16", copy.bytes), copy.site);
    if (!shared_memory.contains(to))
        e.thread_failed(CUDA_ERROR_ILLEGAL_ADDRESS,
                        format("copies to 0x%lx, which is not in shared memory", to), copy.site);
    if (from % copy.bytes)
        e.thread_failed(CUDA_ERROR_MISALIGNED_ADDRESS,
                        format("copies %u bytes from 0x%lx, which is no multiple of %u", copy.bytes,
                               from, copy.bytes),
                        copy.site);
    if (copy.read && !memory.contains(from))
        e.thread_failed(CUDA_ERROR_ILLEGAL_ADDRESS,
                        format("copies from 0x%lx, which is not in global memory", from),
                        copy.site);
}

extern "C" {

void braze_copy_async(void* to, const void* from, unsigned bytes, unsigned read, int checked) {
    Thread& thread = *execution.thread;
    Copy copy = {(char*)to, (const char*)from, bytes, read, thread.groups, checked != 0,
                 __builtin_return_address(0)};
    if (checked) {
        check_places(copy);
        if (read)
            check((void*)from, read, false, Access::read, copy.site);
        else if (options.profile)
            profile_access((uintptr_t)from, 0, Access::read, false, copy.site);
        check(to, bytes, true, Access::write, copy.site);
        memset(shared_memory.state((uintptr_t)to), ALLOCATED, bytes);
    }
    memset(to, 0xff, bytes);
    thread.copies.push_back(copy);
}

void braze_copy_commit(void) { execution.thread->groups++; }

void braze_copy_wait(unsigned latest) {
    Thread& thread = *execution.thread;
    size_t done = 0;
    // Those that belong to no ended group are not waited for.
    for (; done < thread.copies.size(); done++) {
        const Copy& copy = thread.copies[done];
        if (copy.group + latest >= thread.groups) break;
        memcpy(copy.to, copy.from, copy.read);
        memset(copy.to + copy.read, 0, copy.bytes - copy.read);
        if (!copy.checked) continue;
        bool profile = options.profile;
        options.profile = false;  // it was counted when it was asked for
        check(copy.to, copy.bytes, true, Access::write, copy.site);
        options.profile = profile;
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + done);
}
}
