"""Device functions of threads that work together: what reductions and scans combine, and how."""

from __future__ import annotations

from braze.codegen.cuda.library_part import Part, part

THREADS: dict[str, Part] = {
    "Table": part("""
// What a launch is given for each of several kernels that it does: the number of the first block,
// how many elements there are, and addresses.
template <int ROWS, int COLUMNS> struct Table { long long at[ROWS][COLUMNS]; };
// The kernel that a block works for.
template <int ROWS, int COLUMNS>
DEVICE int row_of(const Table<ROWS, COLUMNS>& table, int block) {
  int low = 0, high = ROWS - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table.at[middle][0] <= block) low = middle;
    else high = middle - 1;
  }
  return low;
}
"""),
    "Sum": part("""
// How two numbers are combined. Integers wrap around.
struct Sum {
  DEVICE float operator()(float x, float y) const { return x + y; }
  DEVICE double operator()(double x, double y) const { return x + y; }
  DEVICE bool operator()(bool x, bool y) const { return x || y; }
  template <class T> DEVICE T operator()(T x, T y) const {
    return T((unsigned long long)x + (unsigned long long)y);
  }
};
"""),
    "Product": part("""
struct Product {
  DEVICE float operator()(float x, float y) const { return x * y; }
  DEVICE double operator()(double x, double y) const { return x * y; }
  DEVICE bool operator()(bool x, bool y) const { return x && y; }
  template <class T> DEVICE T operator()(T x, T y) const {
    return T((unsigned long long)x * (unsigned long long)y);
  }
};
"""),
    "Larger": part("""
struct Larger {
  template <class T> DEVICE T operator()(T x, T y) const { return larger(x, y); }
};
""", "larger"),
    "Smaller": part("""
struct Smaller {
  template <class T> DEVICE T operator()(T x, T y) const { return smaller(x, y); }
};
""", "larger"),
    "Any": part("""
struct Any { DEVICE bool operator()(bool x, bool y) const { return x || y; } };
"""),
    "All": part("""
struct All { DEVICE bool operator()(bool x, bool y) const { return x && y; } };
"""),
    "Placed": part("""
// A value and where it stands, in a type of the same size (see `place_type`: nothing lies between
// them). The first of the largest (smallest) is wanted; nan beats all.
template <class T, class P> struct Placed { T value; P place; };
template <class T, class P> DEVICE Placed<T, P> placed(T value, P place) {
  Placed<T, P> made;
  made.value = value;
  made.place = place;
  return made;
}
template <class T> DEVICE bool is_same(T x, T y) {
  return x == y || (x != x && y != y);
}
struct FirstLargest {
  template <class T, class P>
  DEVICE Placed<T, P> operator()(Placed<T, P> x, Placed<T, P> y) const {
    if (is_same(x.value, y.value)) return x.place < y.place ? x : y;
    return x.value > y.value || x.value != x.value ? x : y;
  }
};
struct FirstSmallest {
  template <class T, class P>
  DEVICE Placed<T, P> operator()(Placed<T, P> x, Placed<T, P> y) const {
    if (is_same(x.value, y.value)) return x.place < y.place ? x : y;
    return x.value < y.value || x.value != x.value ? x : y;
  }
};
"""),
    "shuffle": part("""
// The value of another lane: of lane ^ mask, or of the lane `by` below.
template <class T> DEVICE T lane_xor(T x, int mask) {
  if constexpr (sizeof(T) < 4) return T(__shfl_xor_sync(0xffffffffu, int(x), mask));
  else return __shfl_xor_sync(0xffffffffu, x, mask);
}
template <class T> DEVICE T lane_below(T x, int by) {
  if constexpr (sizeof(T) < 4) return T(__shfl_up_sync(0xffffffffu, int(x), by));
  else return __shfl_up_sync(0xffffffffu, x, by);
}
"""),
    "shuffle_placed": part("""
template <class T, class P> DEVICE Placed<T, P> lane_xor(Placed<T, P> x, int mask) {
  return placed(lane_xor(x.value, mask), lane_xor(x.place, mask));
}
template <class T, class P> DEVICE Placed<T, P> lane_below(Placed<T, P> x, int by) {
  return placed(lane_below(x.value, by), lane_below(x.place, by));
}
""", "Placed", "shuffle"),
    "again": part("""
// threadIdx.x and blockIdx.x, read once more: what is made of them behind a loop is computed there,
// and takes no register within it.
#ifndef BRAZE_EMULATED
DEVICE int thread_again() {
  int number;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
  return number;
}
DEVICE int block_again() {
  int number;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(number));
  return number;
}
#else
DEVICE int thread_again() { return threadIdx.x; }
DEVICE int block_again() { return blockIdx.x; }
#endif
"""),
    "lanes_reduce": part("""
// Combined over groups of G neighbouring lanes of a warp; every lane gets the result.
template <int G, class T, class F> DEVICE T lanes_reduce(T x, F combine) {
#pragma unroll
  for (int mask = G / 2; mask > 0; mask /= 2) x = combine(x, lane_xor(x, mask));
  return x;
}
""", "shuffle"),
    "block_reduce": part("""
// Combined over a block of W whole warps; every thread gets the result.
template <int W, class T, class F> DEVICE T block_reduce(T x, F combine) {
  __shared__ T of_warps[W];
  x = lanes_reduce<32>(x, combine);
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = of_warps[0];
#pragma unroll
  for (int warp = 1; warp < W; ++warp) x = combine(x, of_warps[warp]);
  return x;
}
""", "lanes_reduce"),
    "columns_reduce": part("""
// Combined over threadIdx.y, which is below G; threadIdx.x, below X, tells results apart.
template <int X, int G, class T, class F>
DEVICE T columns_reduce(T x, F combine) {
  __shared__ T all[G][X];
  __syncthreads();
  all[threadIdx.y][threadIdx.x] = x;
#pragma unroll
  for (int half = G / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      all[threadIdx.y][threadIdx.x] =
          combine(all[threadIdx.y][threadIdx.x], all[threadIdx.y + half][threadIdx.x]);
    }
  }
  __syncthreads();
  return all[0][threadIdx.x];
}
"""),
    "lanes_scan": part("""
// Each lane gets the combination of its own and all lower lanes' values, in their order.
template <class T, class F> DEVICE T lanes_scan(T x, F combine) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const T before = lane_below(x, by);
    if (lane >= by) x = combine(before, x);
  }
  return x;
}
""", "shuffle"),
    "block_scan": part("""
// The same over a block of W whole warps. `total` becomes the combination of all.
template <int W, class T, class F>
DEVICE T block_scan(T x, F combine, T* total) {
  __shared__ T of_warps[W];
  x = lanes_scan(x, combine);
  __syncthreads();
  if (threadIdx.x % 32 == 31) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  T before = of_warps[0];
#pragma unroll
  for (int warp = 1; warp < W; ++warp) {
    if (warp == threadIdx.x / 32) x = combine(before, x);
    before = combine(before, of_warps[warp]);
  }
  *total = before;
  return x;
}
""", "lanes_scan"),
    "Step": part("""
// y -> a y + b, and one of them after another.
template <class T> struct Step { T a, b; };
template <class T> DEVICE Step<T> step(T a, T b) {
  Step<T> made;
  made.a = a;
  made.b = b;
  return made;
}
struct Then {
  DEVICE Step<float> operator()(Step<float> x, Step<float> y) const {
    return step(x.a * y.a, y.a * x.b + y.b);
  }
  DEVICE Step<double> operator()(Step<double> x, Step<double> y) const {
    return step(x.a * y.a, y.a * x.b + y.b);
  }
  template <class T> DEVICE Step<T> operator()(Step<T> x, Step<T> y) const {
    const Product times;
    return step(times(x.a, y.a), Sum()(times(y.a, x.b), y.b));
  }
};
template <class T> DEVICE Step<T> lane_below(Step<T> x, int by) {
  return step(lane_below(x.a, by), lane_below(x.b, by));
}
""", "Sum", "Product", "shuffle"),
    "LastLargest": part("""
// Of values in order: the last of the largest (smallest) so far; a nan is one from then on. What
// has no place is no value.
struct LastLargest {
  template <class T, class P>
  DEVICE Placed<T, P> operator()(Placed<T, P> x, Placed<T, P> y) const {
    return y.place >= 0 && (y.value >= x.value || y.value != y.value) ? y : x;
  }
};
struct LastSmallest {
  template <class T, class P>
  DEVICE Placed<T, P> operator()(Placed<T, P> x, Placed<T, P> y) const {
    return y.place >= 0 && (y.value <= x.value || y.value != y.value) ? y : x;
  }
};
""", "Placed", "shuffle_placed"),
}  # fmt: skip
