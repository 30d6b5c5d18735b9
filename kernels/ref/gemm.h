// The definition of a matrix product, one scalar at a time: C[m,n] = op(A) op(B), each element the chain
//   s = 0;  s = fma(A[i,k], B[k,j], s) for k = 0, 1, ..., K-1
// with one rounding per term, then C = s or C = C + s. Works for float, double and std::complex<double>
// (complex-step derivatives), for which fma(a, b, s) is a * b + s.
#ifndef JEVONS_KERNELS_REF_GEMM_H_
#define JEVONS_KERNELS_REF_GEMM_H_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/ops/gemm.h"

namespace jevons::ref {

template <typename T>
T MulAdd(T a, T b, T sum) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fma(a, b, sum);
  } else {
    return a * b + sum;
  }
}

// A matrix as it lies in memory: element (i,j) of the operand is data[i*pitch + j], or data[j*pitch + i] if
// transposed.
template <typename In>
struct Operand {
  const In* data;
  int64_t pitch;
  Form form;
  const In& operator()(int64_t i, int64_t j) const { return form == Form::kPlain ? data[i * pitch + j] : data[j * pitch + i]; }
};

// a: [m,k] and b: [k,n] of type In, c: [m,n] of type Out with rows c_pitch apart; sums in T.
template <typename T, typename In, typename Out>
void Gemm(int64_t m, int64_t n, int64_t k, Operand<In> a, Operand<In> b, WriteMode mode, Out* c, int64_t c_pitch) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      T sum = T(0);
      for (int64_t l = 0; l < k; ++l) sum = MulAdd<T>(static_cast<T>(a(i, l)), static_cast<T>(b(l, j)), sum);
      Out& out = c[i * c_pitch + j];
      out = Out(mode == WriteMode::kAdd ? static_cast<T>(out) + sum : sum);
    }
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_GEMM_H_
