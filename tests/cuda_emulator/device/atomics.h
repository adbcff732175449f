// Atomic operations. Threads run one at a time, so reading and writing one after the other is
// atomic; the driver is asked before, since it checks every access.
#pragma once

// The accesses of the operation itself must not count as plain ones.
#define BRAZE_UNCHECKED static inline __attribute__((no_sanitize("thread"), noinline))

template <class T> BRAZE_UNCHECKED T braze_exchange(T* address, T value) {
    T old = *address;
    *address = value;
    return old;
}
template <class T> BRAZE_UNCHECKED T braze_load(const T* address) { return *address; }

template <class T, class Change> BRAZE_DEVICE T braze_update(T* address, Change change) {
    braze_atomic((void*)address, sizeof(T));
    T old = braze_load(address);
    braze_exchange(address, change(old));
    return old;
}

#define BRAZE_ATOMIC(name, T, expression) \
    BRAZE_DEVICE T name(T* address, T value) { \
        return braze_update(address, [&](T old) -> T { return expression; }); \
    } \
    BRAZE_DEVICE T name##_block(T* address, T value) { return name(address, value); } \
    BRAZE_DEVICE T name##_system(T* address, T value) { return name(address, value); }

// Sums of signed integers wrap around.
BRAZE_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)value))
BRAZE_ATOMIC(atomicAdd, unsigned, old + value)
BRAZE_ATOMIC(atomicAdd, unsigned long long, old + value)
BRAZE_ATOMIC(atomicAdd, float, old + value)
BRAZE_ATOMIC(atomicAdd, double, old + value)
BRAZE_ATOMIC(atomicSub, int, (int)((unsigned)old - (unsigned)value))
BRAZE_ATOMIC(atomicSub, unsigned, old - value)

#define BRAZE_ATOMIC_INTEGERS(name, expression) \
    BRAZE_ATOMIC(name, int, expression) \
    BRAZE_ATOMIC(name, unsigned, expression) \
    BRAZE_ATOMIC(name, long long, expression) \
    BRAZE_ATOMIC(name, unsigned long long, expression)
BRAZE_ATOMIC_INTEGERS(atomicMin, old < value ? old : value)
BRAZE_ATOMIC_INTEGERS(atomicMax, old > value ? old : value)
BRAZE_ATOMIC_INTEGERS(atomicAnd, old & value)
BRAZE_ATOMIC_INTEGERS(atomicOr, old | value)
BRAZE_ATOMIC_INTEGERS(atomicXor, old ^ value)

BRAZE_ATOMIC(atomicExch, int, (void(old), value))
BRAZE_ATOMIC(atomicExch, unsigned, (void(old), value))
BRAZE_ATOMIC(atomicExch, unsigned long long, (void(old), value))
BRAZE_ATOMIC(atomicExch, float, (void(old), value))
BRAZE_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
BRAZE_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)

#define BRAZE_COMPARE_AND_SWAP(T) \
    BRAZE_DEVICE T atomicCAS(T* address, T expected, T value) { \
        return braze_update(address, [&](T old) -> T { return old == expected ? value : old; }); \
    } \
    BRAZE_DEVICE T atomicCAS_block(T* address, T expected, T value) { \
        return atomicCAS(address, expected, value); \
    } \
    BRAZE_DEVICE T atomicCAS_system(T* address, T expected, T value) { \
        return atomicCAS(address, expected, value); \
    }
BRAZE_COMPARE_AND_SWAP(int)
BRAZE_COMPARE_AND_SWAP(unsigned)
BRAZE_COMPARE_AND_SWAP(unsigned short)
BRAZE_COMPARE_AND_SWAP(unsigned long long)
