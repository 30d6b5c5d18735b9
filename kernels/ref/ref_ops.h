// The table "ref": the definitions of this folder, run with float on tensors. One thread; slow, and simple enough to be right by reading.
#ifndef JEVONS_KERNELS_REF_REF_OPS_H_
#define JEVONS_KERNELS_REF_REF_OPS_H_

#include <span>

#include "kernels/ops/op_table.h"

namespace jevons {

extern const OpTable kRefOps;

namespace ref {

void Quantize(const OpContext& ctx, const QuantizeDesc& desc);
void Dequantize(const OpContext& ctx, const DequantizeDesc& desc);
void RequantizeTransposed(const OpContext& ctx, std::span<const RequantizeDesc> descs);
void GroupedGemm(const OpContext& ctx, std::span<const GemmDesc> descs);
void GroupedFp8Gemm(const OpContext& ctx, std::span<const Fp8GemmDesc> descs);

// QuantizeWeights by a table's own Quantize, one weight after the other.
template <decltype(&jevons::Quantize) kQuantize>
void QuantizeWeightsBy(const OpContext& ctx, std::span<const QuantizeWeightDesc> descs, QuantStats* stats) {
  for (const auto& [value, weight] : descs) {
    if (value.size() == 0) continue;
    const Fp8Operand& plain = weight.plain;
    kQuantize(ctx, {.x = value, .codes = plain.codes, .scales = plain.scales, .tiling = plain.tiling, .stats = stats});
    if (weight.turned.codes) TransposeBlocks(plain, weight.turned);
  }
}

}  // namespace ref
}  // namespace jevons

#endif  // JEVONS_KERNELS_REF_REF_OPS_H_
