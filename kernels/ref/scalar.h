// The scalar references define what each operator computes: plain loops over contiguous arrays, templates on
// the number type. float is what runs under JEVONS_OPS=ref, double is the yardstick of the tests, and
// std::complex<double> gives exact derivatives by complex step. So they branch (maximum, top-k) on the real
// part only, and outputs are overwritten. What one element costs is a function of its own where the CUDA kernels share it.
#ifndef JEVONS_KERNELS_REF_SCALAR_H_
#define JEVONS_KERNELS_REF_SCALAR_H_

#include <cmath>
#include <complex>
#include <cstdint>

#include "kernels/base/philox.h"  // JEVONS_HOST_DEVICE

namespace jevons::ref {

template <typename T>
JEVONS_HOST_DEVICE T Real(T x) {
  return x;
}
template <typename T>
T Real(std::complex<T> x) {
  return x.real();
}

// 1 / (1 + exp(-x)) without overflow: exp of a non-positive real part.
template <typename T>
JEVONS_HOST_DEVICE T Sigmoid(T x) {
  using std::exp;
  if (Real(x) >= 0) return T(1) / (T(1) + exp(-x));
  const T e = exp(x);
  return e / (T(1) + e);
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_SCALAR_H_
