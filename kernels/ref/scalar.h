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

// 1 / (1 + exp(-x)) without overflow: exp of a non-positive real part. One path for both signs, as a GPU likes it.
template <typename T>
JEVONS_HOST_DEVICE T Sigmoid(T x) {
  using std::exp;
  const bool positive = Real(x) >= 0;
  const T e = exp(positive ? -x : x);
  return (positive ? T(1) : e) / (T(1) + e);
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_SCALAR_H_
