// Barriers of a block, and what the lanes of a warp do together.
#pragma once

#define BRAZE_ALL_LANES 0xffffffffu

BRAZE_DEVICE void __syncthreads() { braze_barrier(0); }
BRAZE_DEVICE int __syncthreads_count(int predicate) { return (int)braze_barrier(predicate != 0); }
BRAZE_DEVICE int __syncthreads_or(int predicate) { return braze_barrier(predicate != 0) != 0; }
BRAZE_DEVICE int __syncthreads_and(int predicate) { return braze_barrier(predicate == 0) == 0; }

BRAZE_DEVICE void __syncwarp(unsigned mask = BRAZE_ALL_LANES) {
    braze_warp(BRAZE_SYNC, mask, 0, 0, 32);
}
BRAZE_DEVICE void __threadfence() { braze_fence(); }
BRAZE_DEVICE void __threadfence_system() { braze_fence(); }
BRAZE_DEVICE void __threadfence_block() { asm volatile("" ::: "memory"); }

// A value of up to eight bytes travels in a word; larger ones go in several.
template <class T>
BRAZE_DEVICE T braze_shuffle(int operation, unsigned mask, T value, int operand, int width) {
    const int words = (sizeof(T) + 7) / 8;
    uint64_t parts[words] = {};
    __builtin_memcpy(parts, &value, sizeof(T));
    for (int i = 0; i < words; i++)
        parts[i] = braze_warp(operation, mask, parts[i], operand, width);
    T result;
    __builtin_memcpy(&result, parts, sizeof(T));
    return result;
}

#define BRAZE_SHUFFLES(T) \
    BRAZE_DEVICE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) { \
        return braze_shuffle<T>(BRAZE_SHUFFLE, mask, value, lane, width); \
    } \
    BRAZE_DEVICE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) { \
        return braze_shuffle<T>(BRAZE_SHUFFLE_UP, mask, value, (int)delta, width); \
    } \
    BRAZE_DEVICE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) { \
        return braze_shuffle<T>(BRAZE_SHUFFLE_DOWN, mask, value, (int)delta, width); \
    } \
    BRAZE_DEVICE T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) { \
        return braze_shuffle<T>(BRAZE_SHUFFLE_XOR, mask, value, lanes, width); \
    }
BRAZE_SHUFFLES(int)
BRAZE_SHUFFLES(unsigned)
BRAZE_SHUFFLES(long)
BRAZE_SHUFFLES(unsigned long)
BRAZE_SHUFFLES(long long)
BRAZE_SHUFFLES(unsigned long long)
BRAZE_SHUFFLES(float)
BRAZE_SHUFFLES(double)

BRAZE_DEVICE unsigned __ballot_sync(unsigned mask, int predicate) {
    return (unsigned)braze_warp(BRAZE_BALLOT, mask, predicate != 0, 0, 32);
}
BRAZE_DEVICE int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
BRAZE_DEVICE int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, !predicate) == 0;
}

template <class T> BRAZE_DEVICE uint64_t braze_word(T value) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "compares 32 or 64 bits");
    uint64_t word = 0;
    __builtin_memcpy(&word, &value, sizeof(T));
    return word;
}
template <class T> BRAZE_DEVICE unsigned __match_any_sync(unsigned mask, T value) {
    return (unsigned)braze_warp(BRAZE_MATCH_ANY, mask, braze_word(value), 0, 32);
}
template <class T> BRAZE_DEVICE unsigned __match_all_sync(unsigned mask, T value, int* all) {
    unsigned matching = (unsigned)braze_warp(BRAZE_MATCH_ALL, mask, braze_word(value), 0, 32);
    *all = matching != 0;
    return matching;
}

#define BRAZE_REDUCE(name, T, operation) \
    BRAZE_DEVICE T name(unsigned mask, T value) { \
        return (T)braze_warp(operation, mask, (uint64_t)(int64_t)value, 0, 32); \
    }
BRAZE_REDUCE(__reduce_add_sync, unsigned, BRAZE_REDUCE_ADD)
BRAZE_REDUCE(__reduce_add_sync, int, BRAZE_REDUCE_ADD)
BRAZE_REDUCE(__reduce_min_sync, unsigned, BRAZE_REDUCE_MIN)
BRAZE_REDUCE(__reduce_min_sync, int, BRAZE_REDUCE_MIN_SIGNED)
BRAZE_REDUCE(__reduce_max_sync, unsigned, BRAZE_REDUCE_MAX)
BRAZE_REDUCE(__reduce_max_sync, int, BRAZE_REDUCE_MAX_SIGNED)
BRAZE_REDUCE(__reduce_and_sync, unsigned, BRAZE_REDUCE_AND)
BRAZE_REDUCE(__reduce_or_sync, unsigned, BRAZE_REDUCE_OR)
BRAZE_REDUCE(__reduce_xor_sync, unsigned, BRAZE_REDUCE_XOR)
