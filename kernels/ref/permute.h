// Defines kernels/ops/permute.h.
#ifndef JEVONS_KERNELS_REF_PERMUTE_H_
#define JEVONS_KERNELS_REF_PERMUTE_H_

#include <algorithm>

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// indices: [pairs]; row_of, pair_of: [pairs]. A stable sort by expert, one pass per expert.
inline void SortByExpert(int64_t pairs, int64_t experts, const int32_t* indices, int32_t* row_of,
                         int32_t* pair_of) {
  int32_t row = 0;
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t p = 0; p < pairs; ++p) {
      if (indices[p] != e) continue;
      row_of[p] = row;
      pair_of[row++] = static_cast<int32_t>(p);
    }
  }
}

// x: [tokens, cols]; pair_of: [rows]; y: [rows, cols].
template <typename T>
void GatherRows(int64_t rows, int64_t cols, const T* x, const int32_t* pair_of, int64_t slots, T* y) {
  for (int64_t r = 0; r < rows; ++r) std::copy_n(x + pair_of[r] / slots * cols, cols, y + r * cols);
}

// y: [.., cols]; row_of: [tokens * slots]; out: [tokens, cols].
template <typename T>
void SumRows(int64_t tokens, int64_t cols, const T* y, const int32_t* row_of, int64_t slots, T* out) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < cols; ++i) {
      T sum = y[row_of[t * slots] * cols + i];
      for (int64_t k = 1; k < slots; ++k) sum += y[row_of[t * slots + k] * cols + i];
      out[t * cols + i] = sum;
    }
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_PERMUTE_H_
