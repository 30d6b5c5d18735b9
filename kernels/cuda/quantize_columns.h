// Quantisation with transposed codes: by columns, and of weights, which are kept both ways.
#ifndef JEVONS_KERNELS_CUDA_QUANTIZE_COLUMNS_H_
#define JEVONS_KERNELS_CUDA_QUANTIZE_COLUMNS_H_

#include "kernels/ops/quantize.h"

namespace jevons::cuda {

void QuantizeColumns(const OpContext& ctx, const QuantizeDesc& desc);  // Tiling::kColumns128x1

// The codes of a panel lie in shared memory column by column, 128 bytes each, in chunks of eight rows. A column's chunks are
// permuted: sixteen threads that store the same chunk of columns eight apart, and sixteen that read the chunks of one column,
// then use all banks once. Where chunk `chunk` of column `column` lies, in chunks.
JEVONS_HOST_DEVICE constexpr int ChunkPlace(int column, int chunk) { return column * 16 + (chunk ^ (column / 8 % 16)); }

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_QUANTIZE_COLUMNS_H_
