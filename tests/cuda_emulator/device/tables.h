// The table of a module's kernels, which the stand-in `nvcc` fills behind the source.
#pragma once

// Reads parameters from a buffer in which each lies at a multiple of its alignment.
template <class... Parameters> struct BrazeParameters {
    static constexpr unsigned bytes() {
        unsigned end = 0;
        ((end = (end + alignof(Parameters) - 1) / alignof(Parameters) * alignof(Parameters) +
              sizeof(Parameters)),
         ...);
        return end;
    }
};

// The buffer is the driver's: reading it is no access of the kernel's.
#define BRAZE_DRIVER_SIDE __attribute__((no_sanitize("thread", "alignment")))

struct BrazeReader {
    const char* buffer;
    unsigned at;
    template <class T> BRAZE_DRIVER_SIDE T next() {
        at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
        T value;
        braze_read_parameter(&value, buffer + at, sizeof(T));
        at += sizeof(T);
        return value;
    }
};

template <auto function> struct BrazeEntry;
template <class... Parameters, void (*function)(Parameters...)> struct BrazeEntry<function> {
    static const unsigned bytes = BrazeParameters<Parameters...>::bytes();

    BRAZE_DRIVER_SIDE static void run(const char* buffer) {
        BrazeReader reader = {buffer, 0};
        struct Call {  // braces keep the order of the parameters
            BRAZE_DRIVER_SIDE Call(Parameters... parameters) { function(parameters...); }
        } call{reader.next<Parameters>()...};
    }
};

#define BRAZE_KERNEL(name, bounds) \
    {(void (*)())&name, BrazeEntry<&name>::run, BrazeEntry<&name>::bytes, bounds}

// What kernels ask for at launch: `extern __shared__` arrays are other names of it.
extern "C" {
alignas(1024) thread_local char braze_dynamic_shared[BRAZE_MOST_SHARED];
}

#define BRAZE_KERNELS \
    extern "C" const BrazeKernel braze_kernels[]; \
    const BrazeKernel braze_kernels[]

// Which GPUs the code is said to be for, as 80 for sm_80, or 0 for all.
#define BRAZE_ARCHITECTURE(number) \
    extern "C" const int braze_architecture; \
    const int braze_architecture = number
