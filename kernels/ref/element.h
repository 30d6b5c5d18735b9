// One element of a tensor of FP32 or BF16, as the scalar references read and write it.
#ifndef JEVONS_KERNELS_REF_ELEMENT_H_
#define JEVONS_KERNELS_REF_ELEMENT_H_

#include "kernels/tensor/tensor.h"

namespace jevons::ref {

inline float Get(const Tensor& t, int64_t r, int64_t c) {
  return t.dtype == DType::kBF16 ? static_cast<float>(t.row<bf16>(r)[c]) : t.row<float>(r)[c];
}

inline void Put(const Tensor& t, int64_t r, int64_t c, float value) {
  if (t.dtype == DType::kBF16) {
    t.row<bf16>(r)[c] = bf16(value);
  } else {
    t.row<float>(r)[c] = value;
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_ELEMENT_H_
