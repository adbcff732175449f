// The 16-bit floats: NVIDIA's own headers, and here what those write in PTX.
#pragma once

#include "emulated.h"
#include "ptx_names.h"

#include <cuda_fp16.h>
#include <cuda_bf16.h>

#include "ptx_names.h"

BRAZE_SHUFFLES(__half)
BRAZE_SHUFFLES(__half2)
BRAZE_SHUFFLES(__nv_bfloat16)
BRAZE_SHUFFLES(__nv_bfloat162)

// What differs between the two formats; the functions below are written once for both.
BRAZE_DEVICE float braze_wide(__half x) { return __half2float(x); }
BRAZE_DEVICE float braze_wide(__nv_bfloat16 x) { return __bfloat162float(x); }
BRAZE_DEVICE void braze_narrow(float x, __half* to) { *to = __float2half_rn(x); }
BRAZE_DEVICE void braze_narrow(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }

// a * b + c, which a later rounding to fewer digits turns into the result of one rounding: the
// product is exact in double, and where the sum is not, its last bit is set ("rounding to odd").
BRAZE_DEVICE double braze_fma_to_odd(double a, double b, double c) {
    double product = a * b, sum = product + c;
    double c_used = sum - product;
    double error = (product - (sum - c_used)) + (c - c_used);
    long long bits = __double_as_longlong(sum);
    bool finite = sum - sum == 0.0;
    if (error != 0.0 && finite && !(bits & 1)) bits += (error > 0.0) == (sum > 0.0) ? 1 : -1;
    return __longlong_as_double(bits);
}

// The same on the way from double to float, which has more than two digits beyond the narrow
// formats.
BRAZE_DEVICE float braze_float_to_odd(double x) {
    float result = (float)x;
    if ((double)result == x || x != x || result - result != 0.0f) return result;
    unsigned bits = __float_as_uint(result);
    bool too_large = (double)result > x, positive = x > 0.0;
    if (too_large == positive) bits--;  // now it is truncated
    return __uint_as_float(bits | 1);
}

#define BRAZE_HALVES(T, T2) \
    BRAZE_DEVICE T __hfma(T a, T b, T c) { \
        T result; \
        double exact = braze_fma_to_odd(braze_wide(a), braze_wide(b), braze_wide(c)); \
        braze_narrow(braze_float_to_odd(exact), &result); \
        return result; \
    } \
    BRAZE_DEVICE T __hfma_sat(T a, T b, T c) { \
        T result = __hfma(a, b, c); \
        braze_narrow(__saturatef(braze_wide(result)), &result); \
        return result; \
    } \
    BRAZE_DEVICE T __hfma_relu(T a, T b, T c) { \
        T result = __hfma(a, b, c); \
        if (braze_wide(result) < 0.0f) braze_narrow(0.0f, &result); \
        return result; \
    } \
    BRAZE_BOTH(T2, __hfma2, __hfma) \
    BRAZE_BOTH(T2, __hfma2_sat, __hfma_sat) \
    BRAZE_BOTH(T2, __hfma2_relu, __hfma_relu) \
    BRAZE_HALF_FUNCTION(T, T2, hsin, h2sin, sinf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hcos, h2cos, cosf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hexp, h2exp, expf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hexp2, h2exp2, exp2f(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hexp10, h2exp10, exp10f(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hlog, h2log, logf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hlog2, h2log2, log2f(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hlog10, h2log10, log10f(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hrcp, h2rcp, 1.0f / x) \
    BRAZE_HALF_FUNCTION(T, T2, hrsqrt, h2rsqrt, 1.0f / sqrtf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hsqrt, h2sqrt, sqrtf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, htrunc, h2trunc, truncf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hceil, h2ceil, ceilf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hfloor, h2floor, floorf(x)) \
    BRAZE_HALF_FUNCTION(T, T2, hrint, h2rint, rintf(x))

#define BRAZE_BOTH(T2, name, one) \
    BRAZE_DEVICE T2 name(T2 a, T2 b, T2 c) { return T2(one(a.x, b.x, c.x), one(a.y, b.y, c.y)); }

#define BRAZE_HALF_FUNCTION(T, T2, name, name2, expression) \
    BRAZE_DEVICE T name(T value) { \
        float x = braze_wide(value); \
        T result; \
        braze_narrow(expression, &result); \
        return result; \
    } \
    BRAZE_DEVICE T2 name2(T2 value) { return T2(name(value.x), name(value.y)); }

BRAZE_HALVES(__half, __half2)
BRAZE_HALVES(__nv_bfloat16, __nv_bfloat162)

#define BRAZE_FROM_HALF(T, prefix, suffix, To, rounding) \
    BRAZE_DEVICE To prefix##suffix(T x) { return braze_to_integer<To>(braze_wide(x), rounding); }
BRAZE_FROM_HALF(__half, __half2, int_rn, int, BRAZE_NEAREST)
BRAZE_FROM_HALF(__half, __half2, int_rd, int, BRAZE_DOWN)
BRAZE_FROM_HALF(__half, __half2, int_ru, int, BRAZE_UP)
BRAZE_FROM_HALF(__half, __half2, short_rn, short, BRAZE_NEAREST)
BRAZE_FROM_HALF(__half, __half2, short_rd, short, BRAZE_DOWN)
BRAZE_FROM_HALF(__half, __half2, short_ru, short, BRAZE_UP)
BRAZE_FROM_HALF(__half, __half2, uint_rn, unsigned, BRAZE_NEAREST)
BRAZE_FROM_HALF(__half, __half2, uint_rd, unsigned, BRAZE_DOWN)
BRAZE_FROM_HALF(__half, __half2, uint_ru, unsigned, BRAZE_UP)
BRAZE_FROM_HALF(__half, __half2, ushort_rn, unsigned short, BRAZE_NEAREST)
BRAZE_FROM_HALF(__half, __half2, ushort_rd, unsigned short, BRAZE_DOWN)
BRAZE_FROM_HALF(__half, __half2, ushort_ru, unsigned short, BRAZE_UP)
BRAZE_FROM_HALF(__half, __half2, ll_rn, long long, BRAZE_NEAREST)
BRAZE_FROM_HALF(__half, __half2, ll_rd, long long, BRAZE_DOWN)
BRAZE_FROM_HALF(__half, __half2, ll_ru, long long, BRAZE_UP)
BRAZE_FROM_HALF(__half, __half2, ull_rn, unsigned long long, BRAZE_NEAREST)
BRAZE_FROM_HALF(__half, __half2, ull_rd, unsigned long long, BRAZE_DOWN)
BRAZE_FROM_HALF(__half, __half2, ull_ru, unsigned long long, BRAZE_UP)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, int_rd, int, BRAZE_DOWN)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, int_ru, int, BRAZE_UP)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, short_rn, short, BRAZE_NEAREST)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, short_rd, short, BRAZE_DOWN)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, short_ru, short, BRAZE_UP)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, uint_ru, unsigned, BRAZE_UP)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, ushort_rn, unsigned short, BRAZE_NEAREST)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, ushort_rd, unsigned short, BRAZE_DOWN)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, ushort_ru, unsigned short, BRAZE_UP)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, ll_rd, long long, BRAZE_DOWN)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, ll_ru, long long, BRAZE_UP)
BRAZE_FROM_HALF(__nv_bfloat16, __bfloat162, ull_ru, unsigned long long, BRAZE_UP)

#define BRAZE_ATOMIC_HALF(T) \
    BRAZE_DEVICE T atomicAdd(T* address, T value) { \
        braze_atomic(address, sizeof(T)); \
        T old = braze_load(address); \
        braze_exchange(address, (T)(old + value)); \
        return old; \
    }
BRAZE_ATOMIC_HALF(__half)
BRAZE_ATOMIC_HALF(__half2)
BRAZE_ATOMIC_HALF(__nv_bfloat16)
BRAZE_ATOMIC_HALF(__nv_bfloat162)
