// Every access that a kernel makes comes here first: the compiler's thread sanitizer calls these
// functions, of which its own runtime is not linked.
#include <string.h>

#include "access.h"
#include "execution.h"
#include "failure.h"
#include "memory.h"
#include "module.h"
#include "options.h"
#include "profile.h"
#include "races.h"

static const char* verb(Access access) {
    return access == Access::read ? "reads" : access == Access::write ? "writes" : "changes";
}

[[noreturn]] static void illegal(uintptr_t address, unsigned bytes, Access access, const void* site,
                                 const std::string& where) {
    execution.thread_failed(
        CUDA_ERROR_ILLEGAL_ADDRESS,
        format("%s %u bytes at 0x%lx: %s", verb(access), bytes, address, where.c_str()), site);
}

// The first byte without the state's bit, as an offset, or `bytes` if all have it.
static inline unsigned first_without(const unsigned char* states, unsigned bytes, State bit) {
    unsigned i = 0;
    while (i < bytes && states[i] & bit) i++;
    return i;
}

static inline void check_states(unsigned char* states, uintptr_t address, unsigned bytes,
                                Access access, const void* site, bool shared) {
    unsigned bad = first_without(states, bytes, ALLOCATED);
    if (__builtin_expect(bad < bytes, 0))
        illegal(address, bytes, access, site,
                shared ? "shared memory that is none of this kernel's"
                       : memory.describe(address + bad));
    if (access != Access::write) {
        bad = first_without(states, bytes, WRITTEN);
        if (__builtin_expect(bad < bytes, 0))
            execution.thread_failed(
                CUDA_ERROR_ILLEGAL_ADDRESS,
                format("%s %u bytes at 0x%lx that nobody wrote: %s", verb(access), bytes, address,
                       shared ? "shared memory" : memory.describe(address + bad).c_str()),
                site);
    }
    if (access != Access::read)
        for (unsigned i = 0; i < bytes; i++) states[i] = ALLOCATED | WRITTEN;
}

static inline void note_uses(Cell* cell, uintptr_t address, unsigned bytes, Access access,
                             bool shared, const void* site) {
    uintptr_t end = address + bytes;
    for (uintptr_t at = address; at < end; cell++) {
        uintptr_t word = at & ~(uintptr_t)3, stop = word + 4 < end ? word + 4 : end;
        unsigned mask = ((1u << (stop - at)) - 1) << (at - word);
        note_use(cell, mask, access, shared, at, site);
        at = stop;
    }
}

void check(void* pointer, unsigned bytes, bool aligned, Access access, const void* site) {
    Execution& e = execution;
    if (!e.running) return;  // a module's own initialisation
    uintptr_t address = (uintptr_t)pointer;
    if (aligned && (address & (bytes - 1)))
        e.thread_failed(CUDA_ERROR_MISALIGNED_ADDRESS,
                        format("%s %u bytes at 0x%lx, which is no multiple of %u: %s", verb(access),
                               bytes, address, bytes, memory.describe(address).c_str()),
                        site);
    if (memory.contains(address)) {
        check_states(memory.state(address), address, bytes, access, site, false);
        if (memory.device_of(address) != e.launch->device) check_peer(address, site);
        note_uses(memory.cell(address), address, bytes, access, false, site);
        if (options.profile) profile_access(address, bytes, access, false, site);
        return;
    }
    if (shared_memory.contains(address)) {
        check_states(shared_memory.state(address), address, bytes, access, site, true);
        note_uses(shared_memory.cell(address), address, bytes, access, true, site);
        if (options.profile) profile_access(address, bytes, access, true, site);
        return;
    }
    if (e.stacks.contains(address)) {
        if (address < (uintptr_t)e.thread->stack->low ||
            address >= (uintptr_t)e.thread->stack->high)
            illegal(address, bytes, access, site, "another thread's local memory");
        return;
    }
    if (e.launch->module->holds(address, bytes) || is_mapped_host_memory(address, bytes)) return;
    illegal(address, bytes, access, site, "host memory, or no memory at all");
}

static void check_range(void* to, const void* from, size_t bytes, const void* site) {
    if (!bytes) return;
    if (from) check((void*)from, (unsigned)bytes, false, Access::read, site);
    check(to, (unsigned)bytes, false, Access::write, site);
}

extern "C" {

#define ACCESS(bytes) \
    void __tsan_read##bytes(void* p) { \
        check(p, bytes, true, Access::read, __builtin_return_address(0)); \
    } \
    void __tsan_write##bytes(void* p) { \
        check(p, bytes, true, Access::write, __builtin_return_address(0)); \
    } \
    void __tsan_unaligned_read##bytes(void* p) { \
        check(p, bytes, false, Access::read, __builtin_return_address(0)); \
    } \
    void __tsan_unaligned_write##bytes(void* p) { \
        check(p, bytes, false, Access::write, __builtin_return_address(0)); \
    } \
    void __tsan_volatile_read##bytes(void* p) { \
        check(p, bytes, true, Access::read, __builtin_return_address(0)); \
    } \
    void __tsan_volatile_write##bytes(void* p) { \
        check(p, bytes, true, Access::write, __builtin_return_address(0)); \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void* p, unsigned long bytes) {
    check(p, (unsigned)bytes, false, Access::read, __builtin_return_address(0));
}
void __tsan_write_range(void* p, unsigned long bytes) {
    check(p, (unsigned)bytes, false, Access::write, __builtin_return_address(0));
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

// The library functions that kernels call: the stand-in `nvcc` has the linker send them here.
void* __wrap_memcpy(void* to, const void* from, size_t bytes) {
    check_range(to, from, bytes, __builtin_return_address(0));
    return memcpy(to, from, bytes);
}
void* __wrap_memmove(void* to, const void* from, size_t bytes) {
    check_range(to, from, bytes, __builtin_return_address(0));
    return memmove(to, from, bytes);
}
void* __wrap_memset(void* to, int value, size_t bytes) {
    check_range(to, nullptr, bytes, __builtin_return_address(0));
    return memset(to, value, bytes);
}

void braze_read_parameter(void* to, const char* from, unsigned bytes) { memcpy(to, from, bytes); }

void braze_atomic(void* address, unsigned bytes) {
    execution.acquired = true;
    check(address, bytes, true, Access::atomic, __builtin_return_address(0));
}

void braze_fence() {
    if (execution.running) execution.blocks.back().published = ++execution.stamp;
}

void braze_trap() {
    execution.thread_failed(CUDA_ERROR_LAUNCH_FAILED, "__trap()", __builtin_return_address(0));
}

void braze_assert_failed(const char* condition, const char*, int) {
    execution.thread_failed(CUDA_ERROR_ASSERT, format("assertion failed: %s", condition),
                            __builtin_return_address(0));
}
}
