#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "failure.h"
#include "options.h"

Memory memory;

static const uintptr_t PAGE = 4096;
static const uintptr_t ALIGNMENT = 512;
static const uintptr_t GAP = 512;  // between allocations: no access past an end hits the next one
static const size_t MOST_FREED = 65536;  // how many freed allocations are remembered

static void* reserve_range(uintptr_t bytes) {
    void* range = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
        perror("emulated CUDA driver: no range of addresses for device memory");
        exit(2);
    }
    madvise(range, bytes, MADV_DONTDUMP);
    return range;
}

void Memory::reserve(int devices) {
    bytes_ = devices * DEVICE_BYTES;
    base_ = (uintptr_t)reserve_range(bytes_);
    states_ = (unsigned char*)reserve_range(bytes_);
    cells_ = (Cell*)reserve_range(bytes_ / 4 * sizeof(Cell));
    for (int i = 0; i < devices; i++) next_[i] = base_ + i * DEVICE_BYTES + PAGE;
}

uintptr_t Memory::allocate(int device, size_t bytes) {
    uintptr_t end_of_device = base_ + (device + 1) * DEVICE_BYTES;
    if (bytes > options.memory - std::min(options.memory, used_[device])) return 0;
    if (bytes + GAP + ALIGNMENT > end_of_device - next_[device]) return 0;
    uintptr_t start = next_[device];
    next_[device] = (start + bytes + GAP + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    used_[device] += bytes;
    live_[start] = {start, bytes, device, ++serial_};
    memset(state(start), ALLOCATED, bytes);
    memset((void*)start, 0xff, bytes);  // nan, and -1: what nobody wrote must not look like a zero
    allocations_in_page_[start / PAGE]++;
    if ((start + bytes - 1) / PAGE != start / PAGE)
        allocations_in_page_[(start + bytes - 1) / PAGE]++;
    return start;
}

void Memory::forget_pages(uintptr_t start, uintptr_t end) {
    if (start >= end) return;
    madvise((void*)start, end - start, MADV_DONTNEED);
    madvise(state(start), end - start, MADV_DONTNEED);
    madvise(cell(start), (end - start) / 4 * sizeof(Cell), MADV_DONTNEED);
}

bool Memory::release(uintptr_t address) {
    auto at = live_.find(address);
    if (at == live_.end()) return false;
    Allocation gone = at->second;
    live_.erase(at);
    used_[gone.device] -= gone.bytes;
    freed_[address] = gone;
    if (freed_.size() > MOST_FREED) freed_.erase(freed_.begin());
    memset(state(gone.start), 0, gone.bytes);
    // Whole pages go back to the system; the first and the last may hold other allocations.
    uintptr_t first = gone.start / PAGE, last = (gone.start + gone.bytes - 1) / PAGE;
    if (gone.shared) madvise((void*)((first + 1) * PAGE), (last - first) * PAGE, MADV_REMOVE);
    if (gone.foreign)
        mmap((void*)(first * PAGE), (last - first + 1) * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    forget_pages((first + 1) * PAGE, last * PAGE);
    for (uintptr_t page = first; page <= last; page = page < last ? last : last + 1) {
        if (--allocations_in_page_[page]) continue;
        allocations_in_page_.erase(page);
        forget_pages(page * PAGE, (page + 1) * PAGE);
    }
    return true;
}

bool Memory::share(uintptr_t start, int file) {
    Allocation& own = live_.at(start);
    if (own.shared) return true;
    uintptr_t end = start + own.bytes;
    for (uintptr_t page = start / PAGE * PAGE; page < end; page += PAGE) {
        if (!shared_pages_.insert(page).second) continue;  // with another allocation's bytes
        off_t offset = (off_t)(page - first(own.device));
        if (pwrite(file, (void*)page, PAGE, offset) != (ssize_t)PAGE) return false;
        if (mmap((void*)page, PAGE, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, offset) == MAP_FAILED)
            return false;
    }
    mark_written(start, own.bytes);  // others write to it without telling
    return own.shared = true;
}

uintptr_t Memory::attach(int device, int file, uint64_t offset, size_t bytes) {
    uintptr_t into = offset % PAGE, length = (into + bytes + PAGE - 1) / PAGE * PAGE;
    uintptr_t first = (next_[device] + PAGE - 1) / PAGE * PAGE;
    if (length + PAGE > base_ + (device + 1) * DEVICE_BYTES - first) return 0;
    if (mmap((void*)first, length, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, (off_t)(offset - into)) == MAP_FAILED)
        return 0;
    next_[device] = first + length + PAGE;
    uintptr_t start = first + into;
    used_[device] += bytes;
    live_[start] = {start, bytes, device, ++serial_, false, true};
    mark_written(start, bytes);
    allocations_in_page_[start / PAGE]++;
    if ((start + bytes - 1) / PAGE != start / PAGE)
        allocations_in_page_[(start + bytes - 1) / PAGE]++;
    return start;
}

static const Allocation* before(const std::map<uintptr_t, Allocation>& in, uintptr_t address) {
    auto at = in.upper_bound(address);
    return at == in.begin() ? nullptr : &std::prev(at)->second;
}

const Allocation* Memory::find(uintptr_t address) const {
    const Allocation* found = before(live_, address);
    return found && address < found->start + found->bytes ? found : nullptr;
}

bool Memory::all(uintptr_t address, size_t bytes, State bit, uintptr_t* first) const {
    const unsigned char* states = state(address);
    for (size_t i = 0; i < bytes; i++)
        if (!(states[i] & bit)) {
            *first = address + i;
            return false;
        }
    return true;
}

void Memory::mark_written(uintptr_t address, size_t bytes) {
    memset(state(address), ALLOCATED | WRITTEN, bytes);
}

void Memory::mark_unwritten(uintptr_t address, size_t bytes) {
    memset(state(address), ALLOCATED, bytes);
}

void Memory::forget_uses() { madvise(cells_, bytes_ / 4 * sizeof(Cell), MADV_DONTNEED); }

std::string Memory::describe(uintptr_t address) const {
    if (!contains(address)) return "host memory, or no memory at all";
    const Allocation* live = before(live_, address);
    const Allocation* freed = before(freed_, address);
    if (live && freed && live->start < freed->start) live = nullptr;
    const Allocation* nearest = live ? live : freed;
    if (!nearest) return "device memory that was never allocated";
    size_t offset = address - nearest->start;
    std::string what = format("allocation %lu of %zu bytes on device %d", nearest->serial,
                              nearest->bytes, nearest->device);
    if (offset < nearest->bytes)
        return format("byte %zu of %s%s", offset, what.c_str(), live ? "" : ", which was freed");
    return format("byte %zu past the end of %s%s", offset - nearest->bytes, what.c_str(),
                  live ? "" : ", which was freed");
}
