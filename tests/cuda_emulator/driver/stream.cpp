#include "stream.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
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
    if (!stream) stream.reset(new CUstream_st{device, true, {}, false});
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

// Does the stream's work up to a number; the default stream's and that of other streams keep order.
static CUresult run_until(CUstream stream, uint64_t number) {
    CUresult first = CUDA_SUCCESS;
    wait_while_busy(stream);
    while (!stream->work.empty() && stream->work.front().number <= number) {
        CUstream_st::Item work = std::move(stream->work.front());
        stream->work.pop_front();
        auto note = [&](CUresult result) {
            if (first == CUDA_SUCCESS) first = result;
        };
        if (stream == default_stream(stream->device)) {
            for (size_t i = 0; i < streams.size(); i++)
                if (streams[i]->blocking && streams[i]->device == stream->device)
                    note(run_until(streams[i].get(), work.number));
        } else if (stream->blocking) {
            note(run_until(default_stream(stream->device), work.number));
        }
        note(work.run());
        wait_while_busy(stream);  // another thread may have gone on with it meanwhile
    }
    return first;
}

CUresult enqueue(CUstream stream, Work work) {
    stream = resolve(stream, current_context()->device);
    if (!is_stream(stream)) return fail(CUDA_ERROR_INVALID_HANDLE, "no such stream");
    stream->work.push_back({++given, std::move(work)});
    return options.lazy ? CUDA_SUCCESS : run_until(stream, given);
}

CUresult enqueue_external(CUstream stream, Work work) {
    stream = resolve(stream, current_context()->device);
    return enqueue(stream, [stream, work = std::move(work)] {
        stream->busy = true;
        CUresult result;
        {
            Call::Released released;
            result = work();
        }
        stream->busy = false;
        return result;
    });
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
    streams.emplace_back(new CUstream_st{context->device, !(flags & CU_STREAM_NON_BLOCKING), {}, false});
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
    if (stream->busy) return CUDA_ERROR_NOT_READY;
    if (stream->work.empty()) return CUDA_SUCCESS;
    CUresult result = finish_stream(stream);
    return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : result;
}

struct CUevent_st {
    CUstream stream;  // null until recorded
    uint64_t number;
    bool reached;
    std::chrono::steady_clock::time_point time;
};

CUresult CUDAAPI cuEventCreate(CUevent* event, unsigned) {
    NEED_CONTEXT("cuEventCreate");
    *event = new CUevent_st{nullptr, 0, true, {}};
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) {
    NEED_CONTEXT("cuEventRecord");
    event->stream = resolve(stream, context->device);
    event->reached = false;
    event->number = given + 1;
    return enqueue(stream, [event, number = given + 1] {
        if (event->number != number) return CUDA_SUCCESS;  // was recorded again since
        event->reached = true;
        event->time = std::chrono::steady_clock::now();
        return CUDA_SUCCESS;
    });
}

static CUresult reach(CUevent event) {
    return event->reached || !is_stream(event->stream) ? CUDA_SUCCESS
                                                       : run_until(event->stream, event->number);
}

CUresult CUDAAPI cuEventSynchronize(CUevent event) {
    Call call;
    count("synchronisations");
    return reach(event);
}

CUresult CUDAAPI cuEventQuery(CUevent event) {
    Call call;
    if (event->reached) return CUDA_SUCCESS;
    if (is_stream(event->stream) && event->stream->busy) return CUDA_ERROR_NOT_READY;
    CUresult result = reach(event);
    return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : result;
}

CUresult CUDAAPI cuEventDestroy(CUevent event) {
    Call call;
    CUresult result = reach(event);
    delete event;
    return result;
}

CUresult CUDAAPI cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    Call call;
    if (!start->stream || !end->stream)
        return fail(CUDA_ERROR_INVALID_HANDLE, "an event that was never recorded has no time");
    if (!start->reached || !end->reached) return CUDA_ERROR_NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    NEED_CONTEXT("cuStreamWaitEvent");
    if (!event->stream) return CUDA_SUCCESS;
    // The wait is for what was recorded by now, whatever is recorded later.
    return enqueue(stream, [other = event->stream, number = event->number] {
        return is_stream(other) ? run_until(other, number) : CUDA_SUCCESS;
    });
}
