"""Device functions that put keys in order."""

from __future__ import annotations

from braze.codegen.cuda.library_part import Part, part

SORTING: dict[str, Part] = {
    "Key": part("""
// A key and its place in the row. Equal keys keep their order, nan is the largest key, and what has
// no place comes behind all.
template <class T, class P> struct Key { T value; P place; };
struct Ascending {
  template <class T, class P> DEVICE bool operator()(Key<T, P> x, Key<T, P> y) const {
    if (x.place < 0 || y.place < 0) return x.place >= 0;
    if (x.value < y.value || (y.value != y.value && x.value == x.value)) return true;
    if (y.value < x.value || (x.value != x.value && y.value == y.value)) return false;
    return x.place < y.place;
  }
};
struct Descending {
  template <class T, class P> DEVICE bool operator()(Key<T, P> x, Key<T, P> y) const {
    if (x.place < 0 || y.place < 0) return x.place >= 0;
    if (x.value > y.value || (x.value != x.value && y.value == y.value)) return true;
    if (y.value > x.value || (y.value != y.value && x.value == x.value)) return false;
    return x.place < y.place;
  }
};
"""),
    "bitonic_sort": part("""
// Sorts the N keys (a power of two) of each row in shared memory: R rows, a block of T threads
// (Batcher, "Sorting networks and their applications", AFIPS 1968).
template <int N, int R, int T, class K, class F>
DEVICE void bitonic_sort(K* keys, F precedes) {
  for (int size = 2; size <= N; size *= 2) {
    for (int half = size / 2; half > 0; half /= 2) {
      __syncthreads();
      for (int pair = threadIdx.x; pair < R * N / 2; pair += T) {
        const int low = pair / half * (2 * half) + pair % half, high = low + half;
        const bool is_up = (low % N & size) == 0;
        const K x = keys[low], y = keys[high];
        if (precedes(y, x) == is_up) {
          keys[low] = y;
          keys[high] = x;
        }
      }
    }
  }
  __syncthreads();
}
""", "Key"),
    "rank_in": part("""
// How many keys of a sorted run come before a key that is not among them.
template <class K, class F>
DEVICE int rank_in(const K* run, int count, K key, F precedes) {
  int low = 0;
  while (low < count) {
    const int middle = (low + count) / 2;
    if (precedes(run[middle], key)) {
      low = middle + 1;
    } else {
      count = middle;
    }
  }
  return low;
}
""", "Key"),
}  # fmt: skip
