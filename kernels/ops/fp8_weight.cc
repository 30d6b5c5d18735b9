#include "kernels/ops/fp8_weight.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

constexpr Tiling kTiling = Tiling::kBlocks128x128;

Fp8Operand Allocate(Arena& arena, int64_t rows, int64_t cols, int64_t pitch) {
  return {.codes = arena.Allocate("weight codes", DType::kU8, {rows, pitch}).Columns(0, cols),
          .scales = arena.Allocate("weight scales", DType::kF32, ScalesShape(rows, cols, kTiling)),
          .tiling = kTiling};
}

int64_t Bytes(int64_t rows, int64_t cols, int64_t pitch) {
  return Arena::SliceBytes(DType::kU8, {rows, pitch}) + Arena::SliceBytes(DType::kF32, ScalesShape(rows, cols, kTiling));
}

int64_t TurnedPitch(int64_t n) { return (n + kCodeAlignment - 1) / kCodeAlignment * kCodeAlignment; }

void ExpectBlocks(const Fp8Operand& x, int64_t rows, int64_t cols) {
  JEVONS_CHECK(x.tiling == kTiling, "not in blocks of 128x128");
  ExpectMatrix("codes", x.codes, DType::kU8, rows, cols);
  ExpectMatrix("scales", x.scales, DType::kF32, TilesOf(rows), TilesOf(cols));
}

template <typename T>
void Transpose(const Tensor& from, const Tensor& to) {
  for (int64_t r = 0; r < from.rows(); ++r)
    for (int64_t c = 0; c < from.cols(); ++c) to.row<T>(c)[r] = from.row<T>(r)[c];
}

}  // namespace

Fp8Weight AllocateFp8Weight(Arena& arena, Device backend, int64_t n, int64_t k) {
  Fp8Weight weight{.plain = Allocate(arena, n, k, k), .turned = {}};
  if (!ReadsPlainB(backend)) weight.turned = Allocate(arena, k, n, TurnedPitch(n));
  return weight;
}

int64_t Fp8WeightBytes(Device backend, int64_t n, int64_t k) {
  return Bytes(n, k, k) + (ReadsPlainB(backend) ? 0 : Bytes(k, n, TurnedPitch(n)));
}

void QuantizeWeights(const OpContext& ctx, std::span<const QuantizeWeightDesc> descs, QuantStats* stats) {
  for (const auto& [value, weight] : descs) {
    ExpectReal("value", value);
    ExpectMatrix("value", value, value.dtype, value.rows(), value.cols());
    ExpectBlocks(weight.plain, value.rows(), value.cols());
    if (weight.turned.codes) ExpectBlocks(weight.turned, value.cols(), value.rows());
  }
  Ops(ctx.stream).quantize_weights(ctx, descs, stats);
}

void TransposeBlocks(const Fp8Operand& from, const Fp8Operand& to) {
  const int64_t rows = from.codes.rows(), cols = from.codes.cols();
  ExpectBlocks(from, rows, cols);
  ExpectBlocks(to, cols, rows);
  Transpose<uint8_t>(from.codes, to.codes);
  Transpose<float>(from.scales, to.scales);
}

}  // namespace jevons
