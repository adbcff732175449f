"""Device functions of single numbers: the semantics of NumPy where those of C are others."""

from __future__ import annotations

from braze.codegen.cuda.library_part import Part, part

SCALARS: dict[str, Part] = {
    "Pack": part("""
// N neighbouring elements, loaded or stored at once.
template <class T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };
template <int N, class T> DEVICE Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <int N, class T> DEVICE void store_pack(T* to, const Pack<T, N>& x) {
  *reinterpret_cast<Pack<T, N>*>(to) = x;
}
"""),
    "quotient": part("""
// Of a number that is not negative, by a constant.
template <unsigned D> DEVICE int quotient(int x) { return unsigned(x) / D; }
template <unsigned D> DEVICE int remainder_of(int x) { return unsigned(x) % D; }
"""),
    "quotient_long": part("""
template <unsigned long long D> DEVICE long long quotient_long(long long x) {
  return (unsigned long long)(x) / D;
}
template <unsigned long long D> DEVICE long long remainder_long(long long x) {
  return (unsigned long long)(x) % D;
}
"""),
    "data_index": part("""
// An index that was read from memory, kept within 0 <= index < extent.
DEVICE long long data_index(long long index, long long extent) {
  return index < 0 ? 0 : index < extent ? index : extent > 0 ? extent - 1 : 0;
}
"""),
    "bit_cast": part("""
template <class To, class From> DEVICE To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
"""),
    "larger": part("""
// The larger (smaller) number; nan if one is nan.
template <class T> DEVICE T larger(T x, T y) {
  return x > y || x != x ? x : y;
}
template <class T> DEVICE T smaller(T x, T y) {
  return x < y || x != x ? x : y;
}
"""),
    "sign_of": part("""
template <class T> DEVICE T sign_of(T x) { return T((x > T(0)) - (x < T(0))); }
"""),
    "floor_divide": part("""
// Rounded down; 0 where y is 0; the smallest number by -1 is itself.
template <class T> DEVICE T floor_divide(T x, T y) {
  if (y == T(0)) return T(0);
  if constexpr (T(-1) < T(0)) {
    if (y == T(-1)) return T(0ull - (unsigned long long)(x));
    const T whole = x / y, rest = x % y;
    return rest != T(0) && (rest < T(0)) != (y < T(0)) ? whole - T(1) : whole;
  }
  return x / y;
}
"""),
    "floor_remainder": part("""
// With the sign of y; 0 where y is 0.
template <class T> DEVICE T floor_remainder(T x, T y) {
  if (y == T(0)) return T(0);
  if constexpr (T(-1) < T(0)) {
    if (y == T(-1)) return T(0);
    const T rest = x % y;
    return rest != T(0) && (rest < T(0)) != (y < T(0)) ? rest + y : rest;
  }
  return x % y;
}
"""),
    "float_remainder": part("""
// With the sign of y, as Python's %.
DEVICE float float_remainder(float x, float y) {
  float rest = fmodf(x, y);
  if (rest == 0.0f) return y == 0.0f ? rest : copysignf(0.0f, y);
  return (rest < 0.0f) != (y < 0.0f) ? rest + y : rest;
}
DEVICE double float_remainder(double x, double y) {
  double rest = fmod(x, y);
  if (rest == 0.0) return y == 0.0 ? rest : copysign(0.0, y);
  return (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}
"""),
    "gcd_of": part("""
// Euclid's algorithm on the sizes, which are numbers without sign.
template <class T> DEVICE unsigned long long size_of(T x) {
  if constexpr (T(-1) < T(0)) {
    if (x < T(0)) return 0ull - (unsigned long long)(x);
  }
  return (unsigned long long)(x);
}
template <class T> DEVICE T gcd_of(T x, T y) {
  unsigned long long a = size_of(x), b = size_of(y);
  while (b != 0) {
    const unsigned long long rest = a % b;
    a = b;
    b = rest;
  }
  return T(a);
}
"""),
    "to_u64": part("""
DEVICE long long to_s64(float x) { return __float2ll_rz(x); }
DEVICE long long to_s64(double x) { return __double2ll_rz(x); }
// The upper half of the range is moved down and, as bits, back up.
template <class T> DEVICE unsigned long long to_u64(T x) {
  const T half = T(9223372036854775808.0);
  if (x >= half) return (unsigned long long)to_s64(x - half) ^ 0x8000000000000000ULL;
  return (unsigned long long)to_s64(x);
}
"""),
    "philox": part("""
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011) of a 64-bit counter and key.
DEVICE uint4 philox(long long counter, long long seed) {
  unsigned a = (unsigned)counter, b = (unsigned)((unsigned long long)counter >> 32), c = 0, d = 0;
  unsigned k = (unsigned)seed, l = (unsigned)((unsigned long long)seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned long long low = 0xD2511F53ull * a, high = 0xCD9E8D57ull * c;
    a = (unsigned)(high >> 32) ^ b ^ k;
    b = (unsigned)high;
    c = (unsigned)(low >> 32) ^ d ^ l;
    d = (unsigned)low;
    k += 0x9E3779B9u;
    l += 0xBB67AE85u;
  }
  return make_uint4(a, b, c, d);
}
"""),
    "check": part("""
// The status block: the number of the first check that failed (0: none has), and its value.
DEVICE bool has_failed(const long long* status) {
  return *status != 0;
}
DEVICE void check(
    long long* status, long long value, long long low, long long high, long long code) {
  if (low <= value && value < high) return;
  if (atomicCAS((unsigned long long*)status, 0ull, (unsigned long long)code) == 0) {
    status[1] = value;
  }
}
"""),
}
