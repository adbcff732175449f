#include "reduction.h"

#include <string.h>

#include <algorithm>
#include <type_traits>

// Two-byte floats are computed with in f32, and rounded to the nearest, ties to even, every time.
struct Bfloat16 {
    uint16_t bits;
    operator float() const {
        uint32_t wide = (uint32_t)bits << 16;
        float value;
        memcpy(&value, &wide, sizeof value);
        return value;
    }
    Bfloat16(float value) {
        uint32_t wide;
        memcpy(&wide, &value, sizeof wide);
        if (value != value) bits = (uint16_t)(wide >> 16 | 0x40);
        else bits = (uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
    }
};

static const struct {
    const char* name;
    size_t bytes;
} TYPES[] = {{"int8", 1},   {"uint8", 1},   {"int32", 4},   {"uint32", 4},  {"int64", 8},
             {"uint64", 8}, {"float16", 2}, {"float32", 4}, {"float64", 8}, {"bfloat16", 2}};

size_t bytes_of(int type) { return TYPES[type].bytes; }
const char* name_of(int type) { return TYPES[type].name; }

template <class T>
using Wide = std::conditional_t<sizeof(T) == 2, float, T>;

template <class T>
static void combine_as(int operation, T* kept, const T* given, size_t count) {
    for (size_t i = 0; i < count; i++) {
        Wide<T> a = (Wide<T>)kept[i], b = (Wide<T>)given[i];
        switch (operation) {
        case ncclProd: kept[i] = (T)(Wide<T>)(a * b); break;
        case ncclMax: kept[i] = (T)std::max(a, b); break;
        case ncclMin: kept[i] = (T)std::min(a, b); break;
        default: kept[i] = (T)(Wide<T>)(a + b);
        }
    }
}

template <class T>
static void divide_as(T* kept, size_t count, int ranks) {
    for (size_t i = 0; i < count; i++) kept[i] = (T)(Wide<T>)((Wide<T>)kept[i] / (Wide<T>)ranks);
}

#define BY_TYPE(call) \
    switch (type) { \
    case ncclInt8: return call(int8_t); \
    case ncclUint8: return call(uint8_t); \
    case ncclInt32: return call(int32_t); \
    case ncclUint32: return call(uint32_t); \
    case ncclInt64: return call(int64_t); \
    case ncclUint64: return call(uint64_t); \
    case ncclFloat16: return call(_Float16); \
    case ncclFloat32: return call(float); \
    case ncclFloat64: return call(double); \
    case ncclBfloat16: return call(Bfloat16); \
    }

void combine(int type, int operation, void* kept, const void* given, size_t count) {
#define COMBINE(T) combine_as<T>(operation, (T*)kept, (const T*)given, count)
    BY_TYPE(COMBINE)
}

void divide(int type, void* kept, size_t count, int ranks) {
#define DIVIDE(T) divide_as<T>((T*)kept, count, ranks)
    BY_TYPE(DIVIDE)
}
