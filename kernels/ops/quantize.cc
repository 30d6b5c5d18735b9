#include "kernels/ops/quantize.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

void ExpectQuantized(const Tensor& codes, const Tensor& scales, int64_t rows, int64_t cols, Tiling tiling, NumberFormat format) {
  JEVONS_CHECK(format != NumberFormat::kE5M6 || tiling == Tiling::kRows1x128, "E5M6 has 1x128 tiles");
  const Shape code_shape = CodesShape(rows, cols, tiling, format), scale_shape = ScalesShape(rows, cols, tiling);
  ExpectMatrix("codes", codes, DType::kU8, code_shape[0], code_shape[1]);
  ExpectMatrix("scales", scales, DType::kF32, scale_shape[0], scale_shape[1]);
}

}  // namespace

void Quantize(const OpContext& ctx, const QuantizeDesc& d) {
  ExpectReal("x", d.x);
  ExpectMatrix("x", d.x, d.x.dtype, d.x.rows(), d.x.cols());
  ExpectQuantized(d.codes, d.scales, d.x.rows(), d.x.cols(), d.tiling, d.format);
  if (d.x.size() > 0) Ops(ctx.stream).quantize(ctx, d);
}

void Dequantize(const OpContext& ctx, const DequantizeDesc& d) {
  ExpectReal("x", d.x);
  ExpectMatrix("x", d.x, d.x.dtype, d.x.rows(), d.x.cols());
  JEVONS_CHECK(d.tiling != Tiling::kColumns128x1, "dequantising transposed codes is not defined");
  ExpectQuantized(d.codes, d.scales, d.x.rows(), d.x.cols(), d.tiling, d.format);
  if (d.x.size() > 0) Ops(ctx.stream).dequantize(ctx, d);
}

void RequantizeTransposed(const OpContext& ctx, std::span<const RequantizeDesc> descs) {
  for (const RequantizeDesc& d : descs) {
    const int64_t rows = d.codes.rows(), cols = d.codes.cols();
    JEVONS_CHECK(d.format != NumberFormat::kE5M6, "only E4M3 and E5M2 are requantised");
    ExpectQuantized(d.codes, d.scales, rows, cols, Tiling::kRows1x128, d.format);
    ExpectQuantized(d.out_codes, d.out_scales, rows, cols, Tiling::kColumns128x1, d.format);
  }
  if (!descs.empty()) Ops(ctx.stream).requantize_transposed(ctx, descs);
}

}  // namespace jevons
