#include "trainer/model/activation.h"

namespace jevons {

CachedActivation::CachedActivation(const LayerContext& ctx, Arena& saved, const char* name, const Shape& shape, bool compress)
    : value_((compress ? *ctx.ops.scratch : saved).Allocate(name, ctx.dtype, shape)), compress_(compress) {}

void CachedActivation::Keep(const LayerContext& ctx, const char* name, const CacheFormat& format) {
  if (!compress_) return;
  const int64_t rows = value_.rows(), cols = value_.cols();
  format_ = format.format;
  codes_ = ctx.SaveAs(name, DType::kU8, CodesShape(rows, cols, Tiling::kRows1x128, format_));
  scales_ = ctx.SaveAs(name, DType::kF32, ScalesShape(rows, cols, Tiling::kRows1x128));
  Quantize(ctx.ops, {.x = value_,
                     .codes = codes_,
                     .scales = scales_,
                     .scale_kind = format.scales,
                     .format = format_,
                     .stats = ctx.fp8 == nullptr ? nullptr : &ctx.fp8->cached});
  value_.data = nullptr;  // its scratch goes; the shape stays
}

Tensor CachedActivation::Restore(const LayerContext& ctx, const char* name) const {
  if (!compress_) return value_;
  const Tensor value = ctx.Temp(name, value_.shape);
  Dequantize(ctx.ops, {.codes = codes_, .scales = scales_, .x = value, .format = format_});
  return value;
}

}  // namespace jevons
