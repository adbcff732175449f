// Mathematical functions that CUDA C has beyond <math.h>.
//
// The fast ones (`__expf`) are as exact as the others: what a GPU loses there is not emulated.
#pragma once

#define BRAZE_FLOAT_1(name, expression) BRAZE_DEVICE float name(float x) { return expression; }
#define BRAZE_FLOAT_2(name, expression) \
    BRAZE_DEVICE float name(float x, float y) { return expression; }
#define BRAZE_DOUBLE_1(name, expression) BRAZE_DEVICE double name(double x) { return expression; }
#define BRAZE_DOUBLE_2(name, expression) \
    BRAZE_DEVICE double name(double x, double y) { return expression; }

BRAZE_FLOAT_1(rsqrtf, 1.0f / sqrtf(x))
BRAZE_FLOAT_1(rcbrtf, 1.0f / cbrtf(x))
BRAZE_FLOAT_1(sinpif, (float)::sin(M_PI * ::remainder((double)x, 2.0)))
BRAZE_FLOAT_1(cospif, (float)::cos(M_PI * ::remainder((double)x, 2.0)))
BRAZE_FLOAT_1(normcdff, (float)(0.5 * ::erfc(-(double)x * M_SQRT1_2)))
BRAZE_DOUBLE_1(rsqrt, 1.0 / ::sqrt(x))
BRAZE_DOUBLE_1(rcbrt, 1.0 / ::cbrt(x))
BRAZE_DOUBLE_1(sinpi, ::sin(M_PI * ::remainder(x, 2.0)))
BRAZE_DOUBLE_1(cospi, ::cos(M_PI * ::remainder(x, 2.0)))
BRAZE_DOUBLE_1(normcdf, 0.5 * ::erfc(-x * M_SQRT1_2))
BRAZE_DEVICE float rsqrt(float x) { return rsqrtf(x); }
BRAZE_DEVICE void sincos(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }
BRAZE_DEVICE void sincospif(float x, float* sine, float* cosine) {
    *sine = sinpif(x);
    *cosine = cospif(x);
}

// Macros, since the C library has functions of these names for itself.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __tanhf(x) tanhf(x)
#define __powf(x, y) powf(x, y)
#define __sincosf(x, sine, cosine) sincosf(x, sine, cosine)
BRAZE_FLOAT_1(__saturatef, x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f)
BRAZE_FLOAT_2(__fdividef, x / y)
BRAZE_FLOAT_2(fdividef, x / y)

// Arithmetic rounded to nearest, never contracted: the stand-in compiles with -ffp-contract=off.
BRAZE_FLOAT_2(__fadd_rn, x + y)
BRAZE_FLOAT_2(__fsub_rn, x - y)
BRAZE_FLOAT_2(__fmul_rn, x * y)
BRAZE_FLOAT_2(__fdiv_rn, x / y)
BRAZE_FLOAT_1(__frcp_rn, 1.0f / x)
BRAZE_FLOAT_1(__fsqrt_rn, sqrtf(x))
BRAZE_FLOAT_1(__frsqrt_rn, (float)(1.0 / ::sqrt((double)x)))
BRAZE_DEVICE float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
BRAZE_DEVICE float __fmaf_ieee_rn(float x, float y, float z) { return fmaf(x, y, z); }
BRAZE_DOUBLE_2(__dadd_rn, x + y)
BRAZE_DOUBLE_2(__dsub_rn, x - y)
BRAZE_DOUBLE_2(__dmul_rn, x * y)
BRAZE_DOUBLE_2(__ddiv_rn, x / y)
BRAZE_DOUBLE_1(__drcp_rn, 1.0 / x)
BRAZE_DOUBLE_1(__dsqrt_rn, ::sqrt(x))
BRAZE_DEVICE double __fma_rn(double x, double y, double z) { return ::fma(x, y, z); }

// The other directions, of a sum and product that a wider type holds exactly.
BRAZE_FLOAT_2(__fadd_rz, braze_to_float<float>((long double)x + y, BRAZE_TO_ZERO))
BRAZE_FLOAT_2(__fadd_ru, braze_to_float<float>((long double)x + y, BRAZE_UP))
BRAZE_FLOAT_2(__fadd_rd, braze_to_float<float>((long double)x + y, BRAZE_DOWN))
BRAZE_FLOAT_2(__fmul_rz, braze_to_float<float>((double)x * y, BRAZE_TO_ZERO))
BRAZE_FLOAT_2(__fmul_ru, braze_to_float<float>((double)x * y, BRAZE_UP))
BRAZE_FLOAT_2(__fmul_rd, braze_to_float<float>((double)x * y, BRAZE_DOWN))

// CUDA declares these without a namespace, for mixed integers too.
#define BRAZE_EXTREMES(T) \
    BRAZE_DEVICE T min(T a, T b) { return a < b ? a : b; } \
    BRAZE_DEVICE T max(T a, T b) { return a > b ? a : b; }
BRAZE_EXTREMES(int)
BRAZE_EXTREMES(unsigned)
BRAZE_EXTREMES(long)
BRAZE_EXTREMES(unsigned long)
BRAZE_EXTREMES(long long)
BRAZE_EXTREMES(unsigned long long)
#define BRAZE_MIXED_EXTREMES(A, B, T) \
    BRAZE_DEVICE T min(A a, B b) { return min((T)a, (T)b); } \
    BRAZE_DEVICE T max(A a, B b) { return max((T)a, (T)b); }
BRAZE_MIXED_EXTREMES(int, unsigned, unsigned)
BRAZE_MIXED_EXTREMES(unsigned, int, unsigned)
BRAZE_MIXED_EXTREMES(long, unsigned long, unsigned long)
BRAZE_MIXED_EXTREMES(unsigned long, long, unsigned long)
BRAZE_MIXED_EXTREMES(long long, unsigned long long, unsigned long long)
BRAZE_MIXED_EXTREMES(unsigned long long, long long, unsigned long long)
BRAZE_FLOAT_2(min, fminf(x, y))
BRAZE_FLOAT_2(max, fmaxf(x, y))
BRAZE_DOUBLE_2(min, ::fmin(x, y))
BRAZE_DOUBLE_2(max, ::fmax(x, y))
BRAZE_DEVICE double min(float x, double y) { return ::fmin((double)x, y); }
BRAZE_DEVICE double min(double x, float y) { return ::fmin(x, (double)y); }
BRAZE_DEVICE double max(float x, double y) { return ::fmax((double)x, y); }
BRAZE_DEVICE double max(double x, float y) { return ::fmax(x, (double)y); }
