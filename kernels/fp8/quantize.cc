#include "kernels/fp8/quantize.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/registry.h"

namespace jevons {
namespace {

// For kNone: no backend takes scratch to quantise.
constexpr QuantizeTable kCountedQuantize = {
    .quantize = TakesNothing, .dequantize = TakesNothing, .requantize_transposed = TakesNothing};

const QuantizeTable& Table(const Stream& stream) {
  if (stream.device == Device::kCuda) return cuda::Quantization();
  if (stream.device == Device::kNone) return kCountedQuantize;
  return &Ops() == &kRefOps ? kRefQuantize : kCpuQuantize;
}

void ExpectQuantized(const Tensor& codes, const Tensor& scales, int64_t rows, int64_t cols, Tiling tiling,
                     NumberFormat format) {
  JEVONS_CHECK(format != NumberFormat::kE5M6 || tiling == Tiling::kRows1x128, "E5M6 has 1x128 tiles");
  const Shape code_shape = CodesShape(rows, cols, tiling, format),
              scale_shape = ScalesShape(rows, cols, tiling);
  ExpectMatrix("codes", codes, DType::kU8, code_shape[0], code_shape[1]);
  ExpectMatrix("scales", scales, DType::kF32, scale_shape[0], scale_shape[1]);
}

}  // namespace

Shape CodesShape(int64_t rows, int64_t cols, Tiling tiling, NumberFormat format) {
  if (format == NumberFormat::kE5M6) return {rows, PackedE5M6Bytes(cols)};
  return tiling == Tiling::kColumns128x1 ? Shape{cols, rows} : Shape{rows, cols};
}

Shape ScalesShape(int64_t rows, int64_t cols, Tiling tiling) {
  return {tiling == Tiling::kRows1x128 ? rows : TilesOf(rows),
          tiling == Tiling::kColumns128x1 ? cols : TilesOf(cols)};
}

void Quantize(const OpContext& ctx, const QuantizeDesc& d) {
  ExpectReal("x", d.x);
  ExpectMatrix("x", d.x, d.x.dtype, d.x.rows(), d.x.cols());
  ExpectQuantized(d.codes, d.scales, d.x.rows(), d.x.cols(), d.tiling, d.format);
  if (d.x.size() > 0) Table(ctx.stream).quantize(ctx, d);
}

void Dequantize(const OpContext& ctx, const DequantizeDesc& d) {
  ExpectReal("x", d.x);
  ExpectMatrix("x", d.x, d.x.dtype, d.x.rows(), d.x.cols());
  JEVONS_CHECK(d.tiling != Tiling::kColumns128x1, "dequantising transposed codes is not defined");
  ExpectQuantized(d.codes, d.scales, d.x.rows(), d.x.cols(), d.tiling, d.format);
  if (d.x.size() > 0) Table(ctx.stream).dequantize(ctx, d);
}

void RequantizeTransposed(const OpContext& ctx, std::span<const RequantizeDesc> descs) {
  for (const RequantizeDesc& d : descs) {
    const int64_t rows = d.codes.rows(), cols = d.codes.cols();
    JEVONS_CHECK(d.format != NumberFormat::kE5M6, "only E4M3 and E5M2 are requantised");
    ExpectQuantized(d.codes, d.scales, rows, cols, Tiling::kRows1x128, d.format);
    ExpectQuantized(d.out_codes, d.out_scales, rows, cols, Tiling::kColumns128x1, d.format);
  }
  if (!descs.empty()) Table(ctx.stream).requantize_transposed(ctx, descs);
}

}  // namespace jevons
