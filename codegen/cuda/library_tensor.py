"""Device functions of tensor cores."""

from __future__ import annotations

from braze.codegen.cuda.library_part import Part, part

TENSOR: dict[str, Part] = {
    "tensor": part("""
// Products of 16 x D by D x 16 numbers by one warp, added up in f32: T is __half or __nv_bfloat16
// (D = 16), or float (D = 8, rounded to TF32). Both factors lie as tile[k][...] in shared memory.
#ifndef BRAZE_EMULATED
#include <mma.h>
template <class T> struct Tensor {
  static const int depth = 16;
  typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, T, nvcuda::wmma::col_major> A;
  typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, T, nvcuda::wmma::row_major> B;
  typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> C;
  template <class F> static __device__ __forceinline__ void load(F& f, const T* from, int pitch) {
    nvcuda::wmma::load_matrix_sync(f, from, pitch);
  }
  static __device__ __forceinline__ void clear(C& c) { nvcuda::wmma::fill_fragment(c, 0.0f); }
  static __device__ __forceinline__ void multiply(C& c, const A& a, const B& b) {
    nvcuda::wmma::mma_sync(c, a, b, c);
  }
  static __device__ __forceinline__ void store(float* to, const C& c) {
    nvcuda::wmma::store_matrix_sync(to, c, 16, nvcuda::wmma::mem_row_major);
  }
};
#else
__device__ __forceinline__ float tensor_factor(float x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x1000u) & ~0x1fffu;
  memcpy(&x, &bits, sizeof bits);
  return x;
}
template <class T> __device__ __forceinline__ float tensor_factor(T x) { return float(x); }
// Each lane has half a row of the product.
template <class T> struct Tensor {
  static const int depth = sizeof(T) == 4 ? 8 : 16;
  struct A { const T* from; int pitch; };
  typedef A B;
  struct C { float x[8]; };
  static __device__ __forceinline__ void load(A& f, const T* from, int pitch) {
    f.from = from;
    f.pitch = pitch;
  }
  static __device__ __forceinline__ void clear(C& c) {
    for (int e = 0; e < 8; ++e) c.x[e] = 0.0f;
  }
  static __device__ __forceinline__ void multiply(C& c, const A& a, const B& b) {
    const int row = threadIdx.x % 32 / 2, column = threadIdx.x % 2 * 8;
    for (int k = 0; k < depth; ++k) {
      const float x = tensor_factor(a.from[k * a.pitch + row]);
      for (int e = 0; e < 8; ++e) c.x[e] += x * tensor_factor(b.from[k * b.pitch + column + e]);
    }
  }
  static __device__ __forceinline__ void store(float* to, const C& c) {
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
  typedef nvcuda::wmma::precision::tf32 Tf32;
  typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 8, Tf32, nvcuda::wmma::col_major> A;
  typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 8, Tf32, nvcuda::wmma::row_major> B;
  typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 8, float> C;
  template <class F> static __device__ __forceinline__ void load(F& f, const float* from, int pitch) {
    nvcuda::wmma::load_matrix_sync(f, from, pitch);
#pragma unroll
    for (int e = 0; e < f.num_elements; ++e) f.x[e] = nvcuda::wmma::__float_to_tf32(f.x[e]);
  }
  static __device__ __forceinline__ void clear(C& c) { nvcuda::wmma::fill_fragment(c, 0.0f); }
  static __device__ __forceinline__ void multiply(C& c, const A& a, const B& b) {
    nvcuda::wmma::mma_sync(c, a, b, c);
  }
  static __device__ __forceinline__ void store(float* to, const C& c) {
    nvcuda::wmma::store_matrix_sync(to, c, 16, nvcuda::wmma::mem_row_major);
  }
};
#endif
""", "tensor"),
}  # fmt: skip
