"""Device functions of tensor cores."""

from __future__ import annotations

from braze.codegen.cuda.library_part import Part, part

TENSOR: dict[str, Part] = {
    "tensor": part("""
// Products of 16 x D by D x 16 numbers by one warp, added up in f32: T is __half or __nv_bfloat16
// (D = 16), or float (D = 8, rounded to TF32). Both factors lie as tile[k][...] in shared memory.
#ifndef BRAZE_EMULATED
#include <mma.h>
namespace wmma = nvcuda::wmma;
template <class T> struct Tensor {
  static const int depth = 16;
  typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::col_major> A;
  typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::row_major> B;
  typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> C;
  template <class F> static DEVICE void load(F& f, const T* from, int pitch) {
    wmma::load_matrix_sync(f, from, pitch);
  }
  static DEVICE void clear(C& c) { wmma::fill_fragment(c, 0.0f); }
  static DEVICE void multiply(C& c, const A& a, const B& b) {
    wmma::mma_sync(c, a, b, c);
  }
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
template <class T> struct Tensor {
  static const int depth = sizeof(T) == 4 ? 8 : 16;
  struct A { const T* from; int pitch; };
  typedef A B;
  struct C { float x[8]; };
  static DEVICE void load(A& f, const T* from, int pitch) {
    f.from = from;
    f.pitch = pitch;
  }
  static DEVICE void clear(C& c) {
    for (int e = 0; e < 8; ++e) c.x[e] = 0.0f;
  }
  static DEVICE void multiply(C& c, const A& a, const B& b) {
    const int row = threadIdx.x % 32 / 2, column = threadIdx.x % 2 * 8;
    for (int k = 0; k < depth; ++k) {
      const float x = tensor_factor(a.from[k * a.pitch + row]);
      for (int e = 0; e < 8; ++e) c.x[e] += x * tensor_factor(b.from[k * b.pitch + column + e]);
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
template <> struct Tensor<float> {
  static const int depth = 8;
  typedef wmma::precision::tf32 Tf32;
  typedef wmma::fragment<wmma::matrix_a, 16, 16, 8, Tf32, wmma::col_major> A;
  typedef wmma::fragment<wmma::matrix_b, 16, 16, 8, Tf32, wmma::row_major> B;
  typedef wmma::fragment<wmma::accumulator, 16, 16, 8, float> C;
  template <class F> static DEVICE void load(F& f, const float* from, int pitch) {
    wmma::load_matrix_sync(f, from, pitch);
#pragma unroll
    for (int e = 0; e < f.num_elements; ++e) f.x[e] = wmma::__float_to_tf32(f.x[e]);
  }
  static DEVICE void clear(C& c) { wmma::fill_fragment(c, 0.0f); }
  static DEVICE void multiply(C& c, const A& a, const B& b) {
    wmma::mma_sync(c, a, b, c);
  }
  static DEVICE void store(float* to, const C& c) {
    wmma::store_matrix_sync(to, c, 16, wmma::mem_row_major);
  }
};
#endif
""", "tensor"),
}  # fmt: skip
