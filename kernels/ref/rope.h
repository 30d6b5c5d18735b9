// Defines kernels/ops/rope.h.
#ifndef JEVONS_KERNELS_REF_ROPE_H_
#define JEVONS_KERNELS_REF_ROPE_H_

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// One pair turned by the angle of c = cos, s = sin.
template <typename T>
JEVONS_HOST_DEVICE void TurnPair(T c, T s, T& even, T& odd) {
  const T x = even, y = odd;
  even = x * c - y * s;
  odd = x * s + y * c;
}

// x: [rows, heads * head_dim], turned in place; cos, sin: [sequence_length, pairs]. `direction` is +1, or -1
// for the inverse.
template <typename T>
void Rope(int64_t rows, int64_t heads, int64_t head_dim, int64_t offset, int64_t pairs, int64_t sequence_length, const T* cos,
          const T* sin, int direction, T* x) {
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t position = t % sequence_length;
    for (int64_t h = 0; h < heads; ++h) {
      T* part = x + (t * heads + h) * head_dim + offset;
      for (int64_t i = 0; i < pairs; ++i) {
        const T c = cos[position * pairs + i], s = T(direction) * sin[position * pairs + i];
        TurnPair(c, s, part[2 * i], part[2 * i + 1]);
      }
    }
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_ROPE_H_
