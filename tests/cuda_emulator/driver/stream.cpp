#include "stream.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "context.h"
#include "failure.h"
#include "memory.h"
#include "options.h"

static std::vector<std::unique_ptr<CUstream_st>> streams;
static std::unique_ptr<CUstream_st> defaults[Memory::MOST_DEVICES];
static uint64_t given;

static CUstream default_stream(int device) {
    auto& stream = defaults[device];
    if (!stream) stream.reset(new CUstream_st{device, true});
    return stream.get();
}

// Null and the two special handles stand for the default stream.
static CUstream resolve(CUstream stream, int device) {
    return stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD
               ? default_stream(device)
               : stream;
}

static bool is_stream(CUstream stream) {
    for (auto& own : streams)
        if (own.get() == stream) return true;
    for (auto& own : defaults)
        if (own && own.get() == stream) return true;
    return false;
}

static void wait_while_busy(CUstream stream) {
    while (stream->busy) {
        Call::Released released;
        usleep(50);
    }
}

// Whether a stream has done its work up to a number.
static bool is_done(CUstream stream, uint64_t number) {
    return (!stream->busy || stream->busy > number) &&
           (stream->work.empty() || stream->work.front().number > number);
}

// What a stream's work up to a number has written may be used from now on.
static void see(CUstream stream, uint64_t number) {
    while (!stream->unseen.empty() && stream->unseen.front().number <= number) {
        auto& own = stream->unseen.front();
        uintptr_t freed;
        if (memory.all(own.address, own.bytes, ALLOCATED, &freed))
            memory.mark_written(own.address, own.bytes);
        stream->unseen.pop_front();
    }
}

// How far a stream is brought: POLL, as far as nothing has to be waited for; GIVE, also waiting for
// others; WAIT, until all is done, and what it wrote may be used.
enum class How { POLL, GIVE, WAIT };

// Does the stream's work up to a number; the default stream's and that of other streams keep order.
static CUresult run_until(CUstream stream, uint64_t number, How how = How::WAIT) {
    CUresult first = CUDA_SUCCESS;
    auto note = [&](CUresult result) {
        if (first == CUDA_SUCCESS) first = result;
    };
    How others = how == How::POLL ? How::POLL : How::WAIT;
    // Whether another stream has come so far, which is tried.
    auto has_come = [&](CUstream other, uint64_t far) {
        note(run_until(other, far, others));
        return is_done(other, far);
    };
    while (!is_done(stream, number)) {
        if (stream->busy) {
            if (how != How::WAIT) return first;
            wait_while_busy(stream);
            continue;
        }
        uint64_t turn = stream->work.front().number;
        bool ready = true;
        if (stream == default_stream(stream->device)) {
            for (size_t i = 0; i < streams.size(); i++)
                if (streams[i]->blocking && streams[i]->device == stream->device)
                    ready &= has_come(streams[i].get(), turn);
        } else if (stream->blocking) {
            ready &= has_come(default_stream(stream->device), turn);
        }
        // Another thread may have gone on with it in each of these.
        auto is_next = [&] {
            return !stream->busy && !stream->work.empty() && stream->work.front().number == turn;
        };
        if (is_next()) {
            CUstream other = stream->work.front().other;
            if (other && is_stream(other)) ready &= has_come(other, stream->work.front().reached);
        }
        if (!ready && how == How::POLL) return first;
        if (!ready || !is_next()) continue;
        CUstream_st::Item work = std::move(stream->work.front());
        stream->work.pop_front();
        if (work.is_work) see(stream, turn);
        note(work.run());
    }
    if (how == How::WAIT) {
        see(stream, number);
        note(std::exchange(stream->failed, CUDA_SUCCESS));
    }
    return first;
}

// Whether work that is given to a stream waits there until somebody waits for it.
static bool is_left(CUstream stream) {
    return options.lazy == Lazy::all || (options.lazy == Lazy::blocking && stream->blocking);
}

static CUresult give(CUstream stream, CUstream_st::Item item, How how = How::WAIT) {
    stream = resolve(stream, current_context()->device);
    if (!is_stream(stream)) return fail(CUDA_ERROR_INVALID_HANDLE, "no such stream");
    item.number = ++given;
    stream->work.push_back(std::move(item));
    if (is_left(stream)) return CUDA_SUCCESS;
    return run_until(stream, given, stream->blocking ? how : How::GIVE);
}

CUresult enqueue(CUstream stream, Work work) { return give(stream, {0, std::move(work)}); }

static thread_local CUstream served;  // by this thread, for another library
static thread_local uint64_t served_number;

void written_unseen(uintptr_t address, size_t bytes) {
    memory.mark_unwritten(address, bytes);
    if (served) served->unseen.push_back({served_number, address, bytes});
}

// At the process's end there must be none left, as their streams go.
static struct Threads {
    std::atomic<int> running;
    ~Threads() {
        for (int i = 0; running && i < 1000; i++) usleep(1000);
    }
} threads;

CUresult enqueue_external(CUstream stream, Work work) {
    stream = resolve(stream, current_context()->device);
    auto start = [stream, number = given + 1, work = std::move(work)] {
        stream->busy = number;
        threads.running++;
        std::thread([stream, number, work] {
            served = stream;
            served_number = number;
            CUresult result = work();
            {
                Call call;
                if (stream->failed == CUDA_SUCCESS) stream->failed = result;
                stream->busy = 0;
                // What came behind goes on by itself.
                if (!is_left(stream)) run_until(stream, given, How::POLL);
            }
            threads.running--;
        }).detach();
        return CUDA_SUCCESS;
    };
    return give(stream, {0, start}, How::GIVE);
}

CUresult finish_stream(CUstream stream) {
    CUresult first = CUDA_SUCCESS;
    if (stream == default_stream(stream->device))
        for (size_t i = 0; i < streams.size(); i++)
            if (streams[i]->blocking && streams[i]->device == stream->device) {
                CUresult result = run_until(streams[i].get(), given);
                if (first == CUDA_SUCCESS) first = result;
            }
    CUresult result = run_until(stream, given);
    return first == CUDA_SUCCESS ? result : first;
}

CUresult finish_device(int device) {
    CUresult first = finish_stream(default_stream(device));
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i]->device == device) {
            CUresult result = run_until(streams[i].get(), given);
            if (first == CUDA_SUCCESS) first = result;
        }
    return first;
}

CUresult finish_all() {
    CUresult first = CUDA_SUCCESS;
    for (int i = 0; i < options.devices; i++) {
        CUresult result = finish_device(i);
        if (first == CUDA_SUCCESS) first = result;
    }
    return first;
}

CUresult CUDAAPI cuStreamCreate(CUstream* stream, unsigned flags) {
    NEED_CONTEXT("cuStreamCreate");
    streams.emplace_back(new CUstream_st{context->device, !(flags & CU_STREAM_NON_BLOCKING)});
    *stream = streams.back().get();
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamDestroy(CUstream stream) {
    Call call;
    if (!is_stream(stream)) return CUDA_ERROR_INVALID_HANDLE;
    CUresult result = finish_stream(stream);
    streams.erase(std::find_if(streams.begin(), streams.end(),
                               [&](auto& own) { return own.get() == stream; }));
    return result;
}

CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
    NEED_CONTEXT("cuStreamSynchronize");
    stream = resolve(stream, context->device);
    if (!is_stream(stream)) return CUDA_ERROR_INVALID_HANDLE;
    count("synchronisations");
    return finish_stream(stream);
}

// Says once that work is left, and then does it: who polls gets on.
CUresult CUDAAPI cuStreamQuery(CUstream stream) {
    NEED_CONTEXT("cuStreamQuery");
    stream = resolve(stream, context->device);
    if (!is_stream(stream)) return CUDA_ERROR_INVALID_HANDLE;
    if (is_done(stream, given)) return CUDA_SUCCESS;
    CUresult result = run_until(stream, given, How::POLL);
    return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : result;
}

// What was recorded last; a stream that gets there later still needs it, whatever comes of the event.
struct Recorded {
    CUstream stream = nullptr;
    uint64_t number = 0;
    bool reached = true;
    std::chrono::steady_clock::time_point time;
};

struct CUevent_st {
    std::shared_ptr<Recorded> last = std::make_shared<Recorded>();
};

CUresult CUDAAPI cuEventCreate(CUevent* event, unsigned) {
    NEED_CONTEXT("cuEventCreate");
    *event = new CUevent_st;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) {
    NEED_CONTEXT("cuEventRecord");
    event->last.reset(new Recorded{resolve(stream, context->device), given + 1, false, {}});
    auto record = [own = event->last] {
        own->reached = true;
        own->time = std::chrono::steady_clock::now();
        return CUDA_SUCCESS;
    };
    return give(stream, {0, record, false});
}

CUresult CUDAAPI cuEventSynchronize(CUevent event) {
    Call call;
    count("synchronisations");
    auto own = event->last;
    return is_stream(own->stream) ? run_until(own->stream, own->number) : CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventQuery(CUevent event) {
    Call call;
    auto own = event->last;
    if (own->reached || !is_stream(own->stream)) return CUDA_SUCCESS;
    CUresult result = run_until(own->stream, own->number, How::POLL);
    return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : result;
}

CUresult CUDAAPI cuEventDestroy(CUevent event) {
    Call call;
    delete event;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    Call call;
    auto from = start->last, to = end->last;
    if (!from->stream || !to->stream)
        return fail(CUDA_ERROR_INVALID_HANDLE, "an event that was never recorded has no time");
    if (!from->reached || !to->reached) return CUDA_ERROR_NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    NEED_CONTEXT("cuStreamWaitEvent");
    auto own = event->last;
    if (!own->stream) return CUDA_SUCCESS;
    // The wait is for what was recorded by now, whatever is recorded later.
    auto wait = [own] {
        if (is_stream(own->stream)) see(own->stream, own->number);
        return CUDA_SUCCESS;
    };
    return give(stream, {0, wait, false, own->stream, own->number});
}
