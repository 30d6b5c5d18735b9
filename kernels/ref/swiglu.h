// Defines kernels/ops/swiglu.h.
#ifndef JEVONS_KERNELS_REF_SWIGLU_H_
#define JEVONS_KERNELS_REF_SWIGLU_H_

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// gate_up: [rows, 2 * inner]; weight: [rows] or null for 1; y: [rows, inner].
template <typename T>
void SwiGlu(int64_t rows, int64_t inner, const T* gate_up, const T* weight, T* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* gate = gate_up + r * 2 * inner;
    const T* up = gate + inner;
    const T w = weight ? weight[r] : T(1);
    for (int64_t i = 0; i < inner; ++i) y[r * inner + i] = gate[i] * Sigmoid(gate[i]) * up[i] * w;
  }
}

// dy: [rows, inner]; dgate_up: [rows, 2 * inner]; dweight: [rows], null where weight is.
template <typename T>
void SwiGluBackward(int64_t rows, int64_t inner, const T* dy, const T* gate_up, const T* weight, T* dgate_up,
                    T* dweight) {
  for (int64_t r = 0; r < rows; ++r, dy += inner) {
    const T* gate = gate_up + r * 2 * inner;
    const T* up = gate + inner;
    T* dgate = dgate_up + r * 2 * inner;
    T* dup = dgate + inner;
    const T w = weight ? weight[r] : T(1);
    T dw = 0;
    for (int64_t i = 0; i < inner; ++i) {
      const T s = Sigmoid(gate[i]);
      const T silu = gate[i] * s;
      dup[i] = dy[i] * w * silu;
      dgate[i] = dy[i] * w * up[i] * s * (T(1) + gate[i] * (T(1) - s));
      dw += dy[i] * silu * up[i];
    }
    if (dweight) dweight[r] = dw;
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_SWIGLU_H_
