// Defines kernels/ops/permute.h.
#ifndef JEVONS_KERNELS_REF_PERMUTE_H_
#define JEVONS_KERNELS_REF_PERMUTE_H_

#include <algorithm>
#include <map>
#include <vector>

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// indices: [pairs]; row_of, pair_of: [pairs]. A stable sort by expert, one pass per expert.
inline void SortByExpert(int64_t pairs, int64_t experts, const int32_t* indices, int32_t* row_of, int32_t* pair_of) {
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

// The same by groups; round: to the type in which a group's sum travels. indices: [tokens, slots].
template <typename T, class Round>
void SumRowsByGroup(int64_t tokens, int64_t cols, const T* y, const int32_t* row_of, const int32_t* indices, int64_t slots,
                    int64_t experts_per_group, const Round& round, T* out) {
  for (int64_t t = 0; t < tokens; ++t) {
    std::map<int64_t, std::vector<int64_t>> rows;  // of each group
    for (int64_t p = t * slots; p < (t + 1) * slots; ++p) rows[indices[p] / experts_per_group].push_back(row_of[p]);
    for (int64_t i = 0; i < cols; ++i) {
      std::vector<T> sums;
      for (const auto& [group, of_group] : rows) {
        T sum = y[of_group[0] * cols + i];
        for (size_t j = 1; j < of_group.size(); ++j) sum += y[of_group[j] * cols + i];
        sums.push_back(round(sum));
      }
      T total = sums[0];
      for (size_t g = 1; g < sums.size(); ++g) total += sums[g];
      out[t * cols + i] = total;
    }
  }
}

// rows: [offsets[segments]]; offsets: [segments + 1]; out: [segments, cols].
template <typename T>
void SumSegments(int64_t segments, int64_t cols, const T* y, const int32_t* rows, const int32_t* offsets, T* out) {
  for (int64_t s = 0; s < segments; ++s) {
    for (int64_t c = 0; c < cols; ++c) {
      T sum = 0;
      for (int32_t i = offsets[s]; i < offsets[s + 1]; ++i) {
        const T term = y[rows[i] * cols + c];
        sum = i == offsets[s] ? term : sum + term;
      }
      out[s * cols + c] = sum;
    }
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_PERMUTE_H_
