"""Device functions that change one element which several threads may want to change."""

from __future__ import annotations

from braze.codegen.cuda.library_part import Part, part

ATOMICS: dict[str, Part] = {
    "atomic_add": part("""
DEVICE void atomic_add(float* to, float x) { atomicAdd(to, x); }
DEVICE void atomic_add(double* to, double x) { atomicAdd(to, x); }
DEVICE void atomic_add(int* to, int x) { atomicAdd(to, x); }
DEVICE void atomic_add(unsigned* to, unsigned x) { atomicAdd(to, x); }
DEVICE void atomic_add(unsigned long long* to, unsigned long long x) {
  atomicAdd(to, x);
}
DEVICE void atomic_add(long long* to, long long x) {
  atomicAdd((unsigned long long*)to, (unsigned long long)x);
}
"""),
    "atomic_change": part("""
// The element becomes change(element), whatever its size, by comparing and swapping the word that
// holds it. What the word is at first is a guess, which the first swap corrects.
template <class Word, class T, class F>
DEVICE void swap_word(Word* word, unsigned shift, Word mask, T*, F change) {
  Word seen = 0, before;
  do {
    before = seen;
    const Word own = before >> shift;
    T x;
    memcpy(&x, &own, sizeof x);
    x = change(x);
    Word changed = 0;
    memcpy(&changed, &x, sizeof x);
    seen = atomicCAS(word, before, Word((before & ~mask) | ((changed << shift) & mask)));
  } while (seen != before);
}
template <class T, class F> DEVICE void atomic_change(T* at, F change) {
  if constexpr (sizeof(T) == 8) {
    swap_word(reinterpret_cast<unsigned long long*>(at), 0, ~0ull, at, change);
  } else if constexpr (sizeof(T) == 4) {
    swap_word(reinterpret_cast<unsigned*>(at), 0, ~0u, at, change);
  } else {
    const size_t address = reinterpret_cast<size_t>(at);
    const unsigned shift = 8 * unsigned(address & 3);
    const unsigned mask = ((1u << (8 * sizeof(T))) - 1u) << shift;
    swap_word(reinterpret_cast<unsigned*>(address & ~size_t(3)), shift, mask, at, change);
  }
}
"""),
}
