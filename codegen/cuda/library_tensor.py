"""Device functions of tensor cores, and of copies to shared memory that go on by themselves."""

from __future__ import annotations

from braze.codegen.cuda.library_part import Part, part

TENSOR: dict[str, Part] = {
    "copy_async": part("""
// Puts N bytes (4, 8 or 16) from global into shared memory while the thread goes on; zeros if they
// are not wanted. Copies belong to the group that is ended next. `wait_for_copies<N>` waits for all
// of the thread's groups but the latest N; other threads see them behind a barrier.
#ifndef BRAZE_EMULATED
template <int N> DEVICE void copy_async(void* to, const void* from, bool is_wanted = true) {
  const unsigned place = (unsigned)__cvta_generic_to_shared(to);
  const int size = is_wanted ? N : 0;
  if constexpr (N == 16)  // not through the first-level cache
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(place), "l"(from), "r"(size) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :: "r"(place), "l"(from), "n"(N), "r"(size) : "memory");
}
DEVICE void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}
#else
template <int N> DEVICE void copy_async(void* to, const void* from, bool is_wanted = true) {
  braze_cp_async(to, from, N, is_wanted ? N : 0);
}
DEVICE void end_copies() { braze_cp_async_commit_group(); }
template <int N> DEVICE void wait_for_copies() { braze_cp_async_wait_group(N); }
#endif
"""),
    "tensor": part("""
// Products of 16 x D by D x 16 numbers by one warp, added up in f32: T is __half or __nv_bfloat16
// (D = 16), or float (D = 8, rounded to TF32). A factor lies in shared memory as tile[k][...], or,
// if its flag is set, as tile[...][k].
#ifndef BRAZE_EMULATED
#include <mma.h>
namespace wmma = nvcuda::wmma;
template <bool IS_SET, class X, class Y> struct Choice { typedef X Type; };
template <class X, class Y> struct Choice<false, X, Y> { typedef Y Type; };
template <class T> struct Factor {
  static const int depth = 16;
  typedef T Type;
  static DEVICE T rounded(T x) { return x; }
};
template <class T, bool A_LAST, bool B_LAST> struct Tensor {
  static const int depth = Factor<T>::depth;
  typedef typename Factor<T>::Type Type;
  typedef typename Choice<A_LAST, wmma::row_major, wmma::col_major>::Type OrderA;
  typedef typename Choice<B_LAST, wmma::col_major, wmma::row_major>::Type OrderB;
  typedef wmma::fragment<wmma::matrix_a, 16, 16, depth, Type, OrderA> A;
  typedef wmma::fragment<wmma::matrix_b, 16, 16, depth, Type, OrderB> B;
  typedef wmma::fragment<wmma::accumulator, 16, 16, depth, float> C;
  template <class F> static DEVICE void load(F& f, const T* from, int pitch) {
    wmma::load_matrix_sync(f, from, pitch);
    if constexpr (depth == 8) {
#pragma unroll
      for (int e = 0; e < f.num_elements; ++e) f.x[e] = Factor<T>::rounded(f.x[e]);
    }
  }
  static DEVICE void clear(C& c) { wmma::fill_fragment(c, 0.0f); }
  static DEVICE void multiply(C& c, const A& a, const B& b) { wmma::mma_sync(c, a, b, c); }
  static DEVICE void store(float* to, const C& c) {
    wmma::store_matrix_sync(to, c, 16, wmma::mem_row_major);
  }
};
#else
DEVICE float tensor_factor(float x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x1000u) & ~0x1fffu;
  memcpy(&x, &bits, sizeof bits);
  return x;
}
template <class T> DEVICE float tensor_factor(T x) { return float(x); }
// Each lane has half a row of the product.
template <class T, bool A_LAST, bool B_LAST> struct Tensor {
  static const int depth = sizeof(T) == 4 ? 8 : 16;
  template <bool IS_LAST> struct Piece {
    const T* from;
    int pitch;
    float at(int k, int other) const {
      return tensor_factor(IS_LAST ? from[other * pitch + k] : from[k * pitch + other]);
    }
  };
  struct A : Piece<A_LAST> {};
  struct B : Piece<B_LAST> {};
  struct C { float x[8]; };
  template <class F> static DEVICE void load(F& f, const T* from, int pitch) {
    f.from = from;
    f.pitch = pitch;
  }
  static DEVICE void clear(C& c) {
    for (int e = 0; e < 8; ++e) c.x[e] = 0.0f;
  }
  static DEVICE void multiply(C& c, const A& a, const B& b) {
    const int row = threadIdx.x % 32 / 2, column = threadIdx.x % 2 * 8;
    for (int k = 0; k < depth; ++k) {
      const float x = a.at(k, row);
      for (int e = 0; e < 8; ++e) c.x[e] += x * b.at(k, column + e);
    }
  }
  static DEVICE void store(float* to, const C& c) {
    const int row = threadIdx.x % 32 / 2, column = threadIdx.x % 2 * 8;
    for (int e = 0; e < 8; ++e) to[row * 16 + column + e] = c.x[e];
  }
};
#endif
"""),
    "tensor_tf32": part("""
#ifndef BRAZE_EMULATED
template <> struct Factor<float> {
  static const int depth = 8;
  typedef wmma::precision::tf32 Type;
  static DEVICE float rounded(float x) { return wmma::__float_to_tf32(x); }
};
#endif
""", "tensor"),
}  # fmt: skip
