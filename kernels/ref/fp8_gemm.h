// The definition of a product of scaled E4M3 codes (kernels/ops/fp8_gemm.h), one scalar at a time. T is float, or
// double for a yardstick: the same sums, with FP64's rounding.
#ifndef JEVONS_KERNELS_REF_FP8_GEMM_H_
#define JEVONS_KERNELS_REF_FP8_GEMM_H_

#include <algorithm>

#include "kernels/fp8/tensor_core.h"
#include "kernels/ops/fp8_gemm.h"
#include "kernels/ref/gemm.h"

namespace jevons::ref {

// The sum over the block of `terms` codes from k = begin on, of row i of A and column j of op(B).
template <typename T>
T Fp8Block(const Fp8GemmDesc& d, int64_t i, int64_t j, int64_t begin, int64_t terms) {
  const Operand<uint8_t> a{d.a.codes.as<uint8_t>(), d.a.codes.pitch, Form::kPlain};
  const Operand<uint8_t> b{d.b.codes.as<uint8_t>(), d.b.codes.pitch, d.b_form};
  T sum = T(0);
  for (int64_t l = begin; l < begin + terms; ++l) {
    sum = MulAdd<T>(static_cast<T>(Decode<E4M3>(a(i, l))), static_cast<T>(Decode<E4M3>(b(l, j))), sum);
  }
  return sum;
}

// The same block added to c by the tensor core, whose steps take 32 products.
inline float TensorCoreBlock(const Fp8GemmDesc& d, int64_t i, int64_t j, int64_t begin, int64_t terms, float c) {
  const Operand<uint8_t> b{d.b.codes.as<uint8_t>(), d.b.codes.pitch, d.b_form};
  for (int64_t l = begin; l < begin + terms; l += TensorCore::kProducts) {
    const int64_t n = std::min<int64_t>(TensorCore::kProducts, begin + terms - l);
    uint8_t column[TensorCore::kProducts];
    for (int64_t t = 0; t < n; ++t) column[t] = b(l + t, j);
    c = TensorCoreStep<E4M3, E4M3>(d.a.codes.row<uint8_t>(i) + l, column, n, c);
  }
  return c;
}

template <typename T>
T Fp8Element(const Fp8GemmDesc& d, int64_t i, int64_t j) {
  const ScaleView sa = d.a_scales(), sb = d.b_scales();
  T acc = T(0);
  for (int64_t begin = 0; begin < d.k(); begin += kTileSize) {
    const int64_t terms = std::min(kTileSize, d.k() - begin), block = begin / kTileSize;
    const T scale = static_cast<T>(sa(i, block)) * static_cast<T>(sb(j, block));
    if (d.promote) {
      acc = acc + Fp8Block<T>(d, i, j, begin, terms) * scale;
    } else {
      acc = TensorCoreBlock(d, i, j, begin, terms, static_cast<float>(acc / scale)) * scale;
    }
  }
  return acc;
}

template <typename T, typename Out>
void Fp8Gemm(const Fp8GemmDesc& d) {
  for (int64_t i = 0; i < d.m(); ++i) {
    for (int64_t j = 0; j < d.n(); ++j) {
      const T acc = Fp8Element<T>(d, i, j);
      Out& out = d.c.row<Out>(i)[j];
      out = Out(d.mode == WriteMode::kAdd ? static_cast<T>(out) + acc : acc);
    }
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_FP8_GEMM_H_
