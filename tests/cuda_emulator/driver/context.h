// Contexts, the current one of each thread, and the lock that every call of the driver holds.
#pragma once

#include <cuda.h>

#include <mutex>
#include <set>
#include <string>

struct CUctx_st {
    int device;
    unsigned flags;
    bool primary;
    bool alive;
    std::set<int> peers;  // devices whose memory it may use
};

// Held while a call of the driver runs: kernels of several threads run one after the other.
class Call {
public:
    Call() {
        mutex_.lock();
        depth_++;
    }
    ~Call() {
        depth_--;
        mutex_.unlock();
    }
    Call(const Call&) = delete;

    // While one lives, the calling thread does not hold the lock: it waits for another process.
    class Released {
    public:
        Released() : depth_(Call::depth_) {
            Call::depth_ = 0;
            for (int i = 0; i < depth_; i++) mutex_.unlock();
        }
        ~Released() {
            for (int i = 0; i < depth_; i++) mutex_.lock();
            Call::depth_ = depth_;
        }

    private:
        int depth_;
    };

private:
    static std::recursive_mutex mutex_;
    static thread_local int depth_;  // how often the thread has locked it
};

// The calling thread's current context, or null.
CUcontext current_context();

// Counts that a program can read by name: launches, copies, allocations.
void count(const char* what, unsigned long by = 1);

// With the option LEAKS: a process fails if it ends with memory allocated.
void check_leaks_at_exit();

#define NEED_CONTEXT(name) \
    Call call; \
    CUcontext context = current_context(); \
    if (!context || !context->alive) \
    return fail(CUDA_ERROR_INVALID_CONTEXT, name " needs a current context")
