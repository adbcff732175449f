// Integer intrinsics, and the same bits taken as another type.
#pragma once

BRAZE_DEVICE int __popc(unsigned x) { return __builtin_popcount(x); }
BRAZE_DEVICE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
BRAZE_DEVICE int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
BRAZE_DEVICE int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
BRAZE_DEVICE int __ffs(int x) { return __builtin_ffs(x); }
BRAZE_DEVICE int __ffsll(long long x) { return __builtin_ffsll(x); }
BRAZE_DEVICE unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
BRAZE_DEVICE unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
BRAZE_DEVICE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
        result |= (unsigned)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return result;
}
BRAZE_DEVICE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)((((uint64_t)high << 32 | low) << (shift & 31)) >> 32);
}
BRAZE_DEVICE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((uint64_t)high << 32 | low) >> (shift & 31));
}

BRAZE_DEVICE int __mulhi(int a, int b) { return (int)(((int64_t)a * b) >> 32); }
BRAZE_DEVICE unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)(((uint64_t)a * b) >> 32);
}
BRAZE_DEVICE long long __mul64hi(long long a, long long b) {
    return (long long)(((__int128)a * b) >> 64);
}
BRAZE_DEVICE unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
BRAZE_DEVICE int __mul24(int a, int b) { return (int)((int64_t)(a << 8 >> 8) * (b << 8 >> 8)); }
BRAZE_DEVICE unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffff) * (b & 0xffffff); }
BRAZE_DEVICE unsigned __sad(int a, int b, unsigned c) {
    return c + (a > b ? (unsigned)a - (unsigned)b : (unsigned)b - (unsigned)a);
}
BRAZE_DEVICE unsigned __usad(unsigned a, unsigned b, unsigned c) {
    return c + (a > b ? a - b : b - a);
}
BRAZE_DEVICE int __hadd(int a, int b) { return (int)(((int64_t)a + b) >> 1); }
BRAZE_DEVICE int __rhadd(int a, int b) { return (int)(((int64_t)a + b + 1) >> 1); }
BRAZE_DEVICE int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++)
        c = (int)((unsigned)c + (unsigned)((int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i)));
    return c;
}
BRAZE_DEVICE unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; i++) c += (a >> 8 * i & 0xff) * (b >> 8 * i & 0xff);
    return c;
}

#define BRAZE_SAME_BITS(name, From, To) \
    BRAZE_DEVICE To name(From value) { \
        To result; \
        __builtin_memcpy(&result, &value, sizeof result); \
        return result; \
    }
BRAZE_SAME_BITS(__float_as_int, float, int)
BRAZE_SAME_BITS(__float_as_uint, float, unsigned)
BRAZE_SAME_BITS(__int_as_float, int, float)
BRAZE_SAME_BITS(__uint_as_float, unsigned, float)
BRAZE_SAME_BITS(__double_as_longlong, double, long long)
BRAZE_SAME_BITS(__longlong_as_double, long long, double)
BRAZE_DEVICE int __double2hiint(double x) { return (int)(__double_as_longlong(x) >> 32); }
BRAZE_DEVICE int __double2loint(double x) { return (int)__double_as_longlong(x); }
BRAZE_DEVICE double __hiloint2double(int high, int low) {
    return __longlong_as_double((long long)((uint64_t)(unsigned)high << 32 | (unsigned)low));
}
