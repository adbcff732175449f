// Conversions between numbers in each of the four rounding directions.
//
// To integers they saturate, and nan gives 0, or the lowest value for 64 bits, as on a GPU. To
// floats they round once.
#pragma once

enum BrazeRounding { BRAZE_NEAREST, BRAZE_TO_ZERO, BRAZE_UP, BRAZE_DOWN };

template <class To, class From> BRAZE_DEVICE To braze_to_integer(From x, BrazeRounding rounding) {
    if (x != x) return sizeof(To) == 8 ? (To)(1ull << 63) : To(0);
    From whole = rounding == BRAZE_NEAREST ? std::rint(x)
        : rounding == BRAZE_UP             ? std::ceil(x)
        : rounding == BRAZE_DOWN           ? std::floor(x)
                                           : std::trunc(x);
    // The bounds are powers of two, so they are exact in both types.
    const From end = std::ldexp(From(1), std::numeric_limits<To>::digits);
    if (whole >= end) return std::numeric_limits<To>::max();
    if (whole < (std::is_signed<To>::value ? -end : From(0))) return std::numeric_limits<To>::min();
    return (To)whole;
}

// x87's 64 bits of mantissa hold every integer and double exactly, so that comparing tells on which
// side the rounding to nearest fell.
template <class To, class From> BRAZE_DEVICE To braze_to_float(From x, BrazeRounding rounding) {
    To nearest = (To)x;
    long double exact = (long double)x, got = (long double)nearest;
    if (rounding == BRAZE_NEAREST || got == exact || x != x) return nearest;
    bool down = rounding == BRAZE_DOWN || (rounding == BRAZE_TO_ZERO && exact > 0);
    if (down && got > exact) return std::nextafter(nearest, -std::numeric_limits<To>::infinity());
    if (!down && got < exact) return std::nextafter(nearest, std::numeric_limits<To>::infinity());
    return nearest;
}

#define BRAZE_ROUNDINGS(from, to, From, To, kind) \
    BRAZE_DEVICE To __##from##2##to##_rn(From x) { return braze_to_##kind<To>(x, BRAZE_NEAREST); } \
    BRAZE_DEVICE To __##from##2##to##_rz(From x) { return braze_to_##kind<To>(x, BRAZE_TO_ZERO); } \
    BRAZE_DEVICE To __##from##2##to##_ru(From x) { return braze_to_##kind<To>(x, BRAZE_UP); } \
    BRAZE_DEVICE To __##from##2##to##_rd(From x) { return braze_to_##kind<To>(x, BRAZE_DOWN); }
BRAZE_ROUNDINGS(float, int, float, int, integer)
BRAZE_ROUNDINGS(float, uint, float, unsigned, integer)
BRAZE_ROUNDINGS(float, ll, float, long long, integer)
BRAZE_ROUNDINGS(float, ull, float, unsigned long long, integer)
BRAZE_ROUNDINGS(double, int, double, int, integer)
BRAZE_ROUNDINGS(double, uint, double, unsigned, integer)
BRAZE_ROUNDINGS(double, ll, double, long long, integer)
BRAZE_ROUNDINGS(double, ull, double, unsigned long long, integer)
BRAZE_ROUNDINGS(int, float, int, float, float)
BRAZE_ROUNDINGS(uint, float, unsigned, float, float)
BRAZE_ROUNDINGS(ll, float, long long, float, float)
BRAZE_ROUNDINGS(ull, float, unsigned long long, float, float)
BRAZE_ROUNDINGS(ll, double, long long, double, float)
BRAZE_ROUNDINGS(ull, double, unsigned long long, double, float)
BRAZE_ROUNDINGS(double, float, double, float, float)
BRAZE_DEVICE double __int2double_rn(int x) { return x; }
BRAZE_DEVICE double __uint2double_rn(unsigned x) { return x; }
