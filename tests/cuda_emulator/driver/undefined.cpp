// What the compiler's undefined behaviour sanitizer finds in a kernel: it calls these functions, of
// which its own runtime is not linked. The layouts of their data are the compiler's.
#include "execution.h"
#include "failure.h"

struct Type {
    uint16_t kind, info;
    char name[1];
};
struct Place {
    const char* file;
    uint32_t line, column;
};

static void fault(CUresult code, const std::string& what, const void* site) {
    if (execution.running) execution.thread_failed(code, what, site);
}

extern "C" {

struct Mismatch {
    Place place;
    const Type* type;
    unsigned char log_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1(Mismatch* data, uintptr_t address) {
    fault(CUDA_ERROR_MISALIGNED_ADDRESS,
          format("uses address 0x%lx as %s, which must be a multiple of %u", address,
                 data->type->name, 1u << data->log_alignment),
          __builtin_return_address(0));
}

struct OutOfBounds {
    Place place;
    const Type *array, *index;
};
void __ubsan_handle_out_of_bounds(OutOfBounds* data, uintptr_t index) {
    fault(CUDA_ERROR_ILLEGAL_ADDRESS,
          format("index %ld is out of bounds of %s", (long)(int)index, data->array->name),
          __builtin_return_address(0));
}

struct Overflow {
    Place place;
    const Type* type;
};
#define OVERFLOW(operation, what) \
    void __ubsan_handle_##operation##_overflow(Overflow* data, uintptr_t, uintptr_t) { \
        fault(CUDA_ERROR_LAUNCH_FAILED, format("%s in %s", what, data->type->name), \
              __builtin_return_address(0)); \
    }
OVERFLOW(add, "a sum overflows")
OVERFLOW(sub, "a difference overflows")
OVERFLOW(mul, "a product overflows")
OVERFLOW(negate, "a negation overflows")
OVERFLOW(divrem, "a division overflows, or divides by zero,")

struct Shift {
    Place place;
    const Type *left, *right;
};
void __ubsan_handle_shift_out_of_bounds(Shift* data, uintptr_t, uintptr_t by) {
    fault(CUDA_ERROR_LAUNCH_FAILED, format("%s is shifted by %ld", data->left->name, (long)(int)by),
          __builtin_return_address(0));
}

struct FloatCast {
    Place place;
    const Type *from, *to;
};
void __ubsan_handle_float_cast_overflow(FloatCast* data, uintptr_t) {
    fault(CUDA_ERROR_LAUNCH_FAILED,
          format("a %s out of range is cast to %s: use an intrinsic, which saturates",
                 data->from->name, data->to->name),
          __builtin_return_address(0));
}
}
