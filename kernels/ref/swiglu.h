// Defines kernels/ops/swiglu.h.
#ifndef JEVONS_KERNELS_REF_SWIGLU_H_
#define JEVONS_KERNELS_REF_SWIGLU_H_

#include "kernels/ref/scalar.h"

namespace jevons::ref {

template <typename T>
JEVONS_HOST_DEVICE T SwiGluElement(T gate, T up, T weight) {
  return gate * Sigmoid(gate) * up * weight;
}

template <typename T>
struct SwiGluElementGrad {
  T dgate, dup, dweight;  // dweight: the element's term
};
template <typename T>
JEVONS_HOST_DEVICE SwiGluElementGrad<T> SwiGluElementBackward(T dy, T gate, T up, T weight) {
  const T s = Sigmoid(gate);
  const T silu = gate * s;
  return {dy * weight * up * s * (T(1) + gate * (T(1) - s)), dy * weight * silu, dy * silu * up};
}

// gate_up: [rows, 2 * inner]; weight: [rows] or null for 1; y: [rows, inner].
template <typename T>
void SwiGlu(int64_t rows, int64_t inner, const T* gate_up, const T* weight, T* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* gate = gate_up + r * 2 * inner;
    const T* up = gate + inner;
    const T w = weight ? weight[r] : T(1);
    for (int64_t i = 0; i < inner; ++i) y[r * inner + i] = SwiGluElement(gate[i], up[i], w);
  }
}

// dy: [rows, inner]; dgate_up: [rows, 2 * inner]; dweight: [rows], null where weight is.
template <typename T>
void SwiGluBackward(int64_t rows, int64_t inner, const T* dy, const T* gate_up, const T* weight, T* dgate_up, T* dweight) {
  for (int64_t r = 0; r < rows; ++r, dy += inner) {
    const T* gate = gate_up + r * 2 * inner;
    const T* up = gate + inner;
    T* dgate = dgate_up + r * 2 * inner;
    T* dup = dgate + inner;
    const T w = weight ? weight[r] : T(1);
    T dw = 0;
    for (int64_t i = 0; i < inner; ++i) {
      const SwiGluElementGrad<T> d = SwiGluElementBackward(dy[i], gate[i], up[i], w);
      dgate[i] = d.dgate;
      dup[i] = d.dup;
      dw += d.dweight;
    }
    if (dweight) dweight[r] = dw;
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_SWIGLU_H_
