#include "execution.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "failure.h"
#include "module.h"
#include "options.h"
#include "profile.h"
#include "races.h"

Execution execution;
BrazeThread* braze_thread;
BrazeGrid braze_grid;

static uint32_t random_below(uint32_t bound) {
    uint64_t& state = options.seed;  // Knuth's linear congruential generator, its high half
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((state >> 32) * bound) >> 32);
}

template <class Index>
static void arrange(std::vector<Index>& order, unsigned count) {
    if (order.size() != count || options.order != Order::random) {
        order.resize(count);
        for (unsigned i = 0; i < count; i++)
            order[i] = (Index)(options.order == Order::reverse ? count - 1 - i : i);
    }
    if (options.order == Order::random)
        for (unsigned i = count; i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
}

static void run_threads() {
    for (;;) {
        execution.launch->run(execution.launch->parameters);
        execution.thread_ended();
    }
}

void Execution::make_all_ready() {
    arrange(order_, count);
    for (uint16_t i : order_) {
        if (threads[i].waiting != Waiting::to_start) threads[i].waiting = Waiting::no;
        make_ready(i);
    }
}

Thread* Execution::next_ready() {
    return head_ == tail_ ? nullptr : &threads[ready_[head_++ % QUEUE]];
}

void Execution::go_on(Thread* next) {
    if (!next) all_wait();
    Thread* from = thread;
    if (next == from) return;
    if (next->waiting == Waiting::to_start) {
        next->waiting = Waiting::no;
        next->stack = stacks.take();
        next->stack_pointer = prepare_stack(*next->stack, run_threads);
    }
    thread = next;
    braze_thread = next;
    braze_switch(&from->stack_pointer, next->stack_pointer);
}

void Execution::wait(Waiting why, const void* site) {
    thread->waiting = why;
    thread->site = site;
    go_on(next_ready());
}

void Execution::thread_ended() {
    thread->waiting = Waiting::ended;
    ended_++;
    Stack* stack = thread->stack;
    Thread* next = next_ready();
    if (next && next->waiting == Waiting::to_start) {  // goes on here, on the same stack
        next->waiting = Waiting::no;
        next->stack = stack;
        thread = next;
        braze_thread = next;
        return;
    }
    void* nowhere;
    if (!next && ended_ == count) braze_switch(&nowhere, scheduler_);
    if (next) stacks.give_back(stack);
    go_on(next);
}

void Execution::thread_failed(CUresult code, const std::string& what, const void* site) {
    std::string line = source_line(site);
    const unsigned* b = braze_grid.block_index;
    code_ = code;
    failure_ = format("kernel %s, block (%u, %u, %u), thread (%u, %u, %u)%s%s: %s", launch->name,
                      b[0], b[1], b[2], thread->x, thread->y, thread->z, line.empty() ? "" : ", ",
                      line.c_str(), what.c_str());
    void* nowhere;
    braze_switch(&nowhere, scheduler_);
    __builtin_unreachable();
}

// All threads wait for one another: fails as one of those that wait.
void Execution::all_wait() {
    Thread *barrier = nullptr, *warp = nullptr, *ended = nullptr;
    for (unsigned i = count; i-- > 0;) {
        Thread& t = threads[i];
        (t.waiting == Waiting::ended ? ended : t.waiting == Waiting::in_warp ? warp : barrier) = &t;
    }
    thread = warp ? warp : barrier;
    thread_failed(CUDA_ERROR_LAUNCH_FAILED,
                  warp ? format("waits for lanes of mask 0x%08x that do not come", warp->mask)
                       : format("%u of %u threads wait at the barrier of %s, which thread (%u, %u, "
                                "%u) and others that ended early do not reach",
                                at_barrier_, count, source_line(barrier->site).c_str(), ended->x,
                                ended->y, ended->z),
                  thread->site);
}

unsigned braze_barrier(int predicate) {
    Execution& e = execution;
    const void* site = __builtin_return_address(0);
    e.barrier_votes_ += (unsigned)predicate;
    if (++e.at_barrier_ < e.count) {
        e.wait(Waiting::at_barrier, site);
        return e.barrier_result_;
    }
    e.thread->site = site;
    for (unsigned i = 0; i < e.count; i++) {
        const Thread& other = e.threads[i];
        // The compiler may have copied a barrier, so places differ only if lines do.
        if (other.site != site && source_line(other.site) != source_line(site))
            e.thread_failed(CUDA_ERROR_LAUNCH_FAILED,
                            format("threads wait at different barriers: thread (%u, %u, %u) at %s",
                                   other.x, other.y, other.z, source_line(other.site).c_str()),
                            site);
    }
    e.block_synchronised = ++e.stamp;
    e.barrier_result_ = e.barrier_votes_;
    e.barrier_votes_ = 0;
    e.at_barrier_ = 0;
    e.make_all_ready();
    e.go_on(e.next_ready());
    return e.barrier_result_;
}

void Execution::find_shared() {
    shared_base = launch->module->shared_base();
    shared_bytes = launch->module->shared_bytes;
    shared_memory.use(shared_base, launch->module->variables_of(*launch));
}

void Execution::prepare_block() {
    block_start = block_synchronised = ++stamp;
    acquired = false;
    shared_memory.start_block();
    head_ = tail_ = at_barrier_ = barrier_votes_ = ended_ = 0;
    for (unsigned i = 0; i < count; i++) {
        threads[i].waiting = Waiting::to_start;
        threads[i].synchronised = stamp;
        threads[i].copies.clear();
        threads[i].groups = 0;
    }
    make_all_ready();
}

void Execution::run_block() {
    prepare_block();
    memcpy(blocks.emplace_back().index, braze_grid.block_index, sizeof braze_grid.block_index);
    blocks.back().start = stamp;
    blocks.back().published = 0;
    thread = next_ready();
    braze_thread = thread;
    thread->waiting = Waiting::no;
    thread->stack = stacks.take();
    thread->stack_pointer = prepare_stack(*thread->stack, run_threads);
    braze_switch(&scheduler_, thread->stack_pointer);
    stacks.give_back_all();
    if (options.profile) profile_block_ended();
}

CUresult Execution::run(const Launch& what) {
    launch = &what;
    count = what.block[0] * what.block[1] * what.block[2];
    threads.resize(count);
    for (unsigned i = 0; i < count; i++) {
        Thread& t = threads[i];
        t.index = i;
        t.x = i % what.block[0];
        t.y = i / what.block[0] % what.block[1];
        t.z = i / what.block[0] / what.block[1];
    }
    memcpy(braze_grid.block_size, what.block, sizeof what.block);
    memcpy(braze_grid.grid_size, what.grid, sizeof what.grid);
    if (stamp > 1u << 31) {
        memory.forget_uses();
        shared_memory.forget_uses();
        stamp = 0;
    }
    launch_start = ++stamp;
    blocks.clear();
    order_.clear();  // a seed gives one order, whatever ran before
    code_ = CUDA_SUCCESS;
    running = true;
    find_shared();
    uint64_t number = (uint64_t)what.grid[0] * what.grid[1] * what.grid[2];
    // A grid may have more blocks than memory has room for their order.
    bool random = options.order == Order::random && number <= 1u << 24;
    std::vector<uint32_t> order;
    if (random) arrange(order, (unsigned)number);
    for (uint64_t i = 0; i < number && code_ == CUDA_SUCCESS; i++) {
        uint64_t at = random ? order[i] : options.order == Order::reverse ? number - 1 - i : i;
        braze_grid.block_index[0] = (unsigned)(at % what.grid[0]);
        braze_grid.block_index[1] = (unsigned)(at / what.grid[0] % what.grid[1]);
        braze_grid.block_index[2] = (unsigned)(at / what.grid[0] / what.grid[1]);
        run_block();
    }
    shared_memory.end_launch();
    running = false;
    fflush(stdout);  // what kernels printed
    return code_ == CUDA_SUCCESS ? code_ : fail(code_, failure_);
}
