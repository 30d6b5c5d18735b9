// Defines kernels/ops/embedding.h.
#ifndef JEVONS_KERNELS_REF_EMBEDDING_H_
#define JEVONS_KERNELS_REF_EMBEDDING_H_

#include <algorithm>

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// table: [vocab, cols]; ids: [rows]; y: [rows, cols].
template <typename T>
void Embedding(int64_t rows, int64_t cols, const T* table, const int32_t* ids, T* y) {
  for (int64_t r = 0; r < rows; ++r) std::copy_n(table + ids[r] * cols, cols, y + r * cols);
}

// dtable: [vocab, cols], each row the sum in row order of the rows of its id.
template <typename T>
void EmbeddingBackward(int64_t rows, int64_t vocab, int64_t cols, const T* dy, const int32_t* ids, T* dtable) {
  std::fill(dtable, dtable + vocab * cols, T(0));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < cols; ++i) dtable[ids[r] * cols + i] += dy[r * cols + i];
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_EMBEDDING_H_
