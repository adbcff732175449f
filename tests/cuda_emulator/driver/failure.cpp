#include "failure.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <map>

static thread_local CUresult last_code;
static thread_local std::string last_text;

std::string format(const char* pattern, ...) {
    va_list list;
    va_start(list, pattern);
    char text[4096];
    vsnprintf(text, sizeof text, pattern, list);
    va_end(list);
    return text;
}

CUresult fail(CUresult code, const std::string& text) {
    last_code = code;
    last_text = text;
    return code;
}

static const char* name_of(CUresult code) {
    switch (code) {
    case CUDA_SUCCESS: return "no error";
    case CUDA_ERROR_INVALID_VALUE: return "invalid argument";
    case CUDA_ERROR_OUT_OF_MEMORY: return "out of memory";
    case CUDA_ERROR_NOT_INITIALIZED: return "initialization error";
    case CUDA_ERROR_NO_DEVICE: return "no CUDA-capable device is detected";
    case CUDA_ERROR_INVALID_DEVICE: return "invalid device ordinal";
    case CUDA_ERROR_INVALID_IMAGE: return "device kernel image is invalid";
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
        return "no kernel image is available for execution on the device";
    case CUDA_ERROR_INVALID_CONTEXT: return "invalid device context";
    case CUDA_ERROR_INVALID_HANDLE: return "invalid resource handle";
    case CUDA_ERROR_NOT_FOUND: return "named symbol not found";
    case CUDA_ERROR_NOT_READY: return "device not ready";
    case CUDA_ERROR_ILLEGAL_ADDRESS: return "an illegal memory access was encountered";
    case CUDA_ERROR_MISALIGNED_ADDRESS: return "misaligned address";
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: return "too many resources requested for launch";
    case CUDA_ERROR_LAUNCH_FAILED: return "unspecified launch failure";
    case CUDA_ERROR_ASSERT: return "device-side assert triggered";
    case CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED: return "peer access is already enabled";
    case CUDA_ERROR_PEER_ACCESS_NOT_ENABLED: return "peer access has not been enabled";
    case CUDA_ERROR_NOT_SUPPORTED: return "operation not supported";
    default: return "unknown error";
    }
}

CUresult CUDAAPI cuGetErrorString(CUresult code, const char** text) {
    static thread_local std::string shown;
    shown = name_of(code);
    if (code == last_code && !last_text.empty()) shown += ": " + last_text;
    *text = shown.c_str();
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult code, const char** text) {
    *text = name_of(code);
    return CUDA_SUCCESS;
}

// The frames that addr2line prints go from the innermost out; the first one that is not the
// emulator's own header is the user's line.
static std::string resolve(const char* library, uintptr_t offset) {
    std::string command = format("addr2line -i -e '%s' 0x%lx 2>/dev/null", library, offset);
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return "";
    std::string found;
    char line[4096];
    while (fgets(line, sizeof line, pipe)) {
        line[strcspn(line, " \n")] = 0;
        const char* slash = strrchr(line, '/');
        bool own = strstr(line, "<emulator>") || strstr(line, "/nvidia/cu13/");
        if (found.empty() && !own && line[0] != '?') found = slash ? slash + 1 : line;
    }
    pclose(pipe);
    return found;
}

static std::map<const void*, std::string> known_lines;

void forget_source_lines() { known_lines.clear(); }

std::string source_line(const void* return_address) {
    auto at = known_lines.find(return_address);
    if (at != known_lines.end()) return at->second;
    Dl_info info;
    std::string line;
    if (dladdr(return_address, &info) && info.dli_fname)
        // The call lies before the address that it returns to.
        line = resolve(info.dli_fname, (uintptr_t)return_address - (uintptr_t)info.dli_fbase - 1);
    return known_lines[return_address] = line;
}
