// The temporaries of FP8 products: taken from the arena, and then filled, unless the stream's device only counts.
#include "kernels/cuda/gemm_fp8_layout.h"

namespace jevons::cuda {
namespace {

bool Runs(const OpContext& ctx) { return ctx.stream.device != Device::kNone; }

Tensor CodesRoom(const OpContext& ctx, int64_t lines, int64_t k) {
  return ctx.scratch->Allocate("gemm.codes", DType::kU8, {lines, RoundUp(k, kCodeAlignment)});
}

Tensor Scales(const OpContext& ctx, const ScaleView& scales, bool lines_inside, int64_t lines, int64_t blocks, int64_t outer,
              int64_t inner) {
  const Tensor out = ctx.scratch->Allocate("gemm.scales", DType::kF32, {outer, inner});
  if (Runs(ctx)) FillScales(ctx, scales, lines_inside, lines, blocks, out);
  return out;
}

}  // namespace

Tensor PaddedCodes(const OpContext& ctx, const Tensor& x, int64_t lines, int64_t k) {
  const Tensor out = CodesRoom(ctx, lines, k);
  if (Runs(ctx)) FillPaddedCodes(ctx, x, out);
  return out.Columns(0, k);
}

Tensor TransposedCodes(const OpContext& ctx, const Tensor& x, int64_t lines, int64_t k) {
  const Tensor out = CodesRoom(ctx, lines, k);
  if (Runs(ctx)) FillTransposedCodes(ctx, x, out);
  return out.Columns(0, k);
}

Tensor VectorScales(const OpContext& ctx, const ScaleView& scales, int64_t count, int64_t lines, int64_t k) {
  return Scales(ctx, scales, true, count, TilesOf(k), TilesOf(k), lines);
}

Tensor BlockScales(const OpContext& ctx, const ScaleView& scales, int64_t lines, int64_t k) {
  ScaleView blocks = scales;
  blocks.lines = 1;  // line i of this view is block i of lines
  return Scales(ctx, blocks, false, TilesOf(lines), TilesOf(k), TilesOf(lines), RoundUp(TilesOf(k), 4));
}

}  // namespace jevons::cuda
