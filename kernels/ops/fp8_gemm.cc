#include "kernels/ops/fp8_gemm.h"

#include "absl/strings/str_format.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

bool FitsMatrix(const Tensor& t, DType dtype, int64_t rows, int64_t cols) {
  return t.dtype == dtype && t.rows() == rows && t.cols() == cols && (rows <= 1 || t.pitch >= cols) &&
         (t.data != nullptr || t.size() == 0);
}

// An operand whose codes lie [lines, k].
bool Fits(const Fp8Operand& x, int64_t lines, int64_t k) {
  const bool turned = x.tiling == Tiling::kColumns128x1;  // [k, lines] was quantised
  const Shape scales = turned ? ScalesShape(k, lines, x.tiling) : ScalesShape(lines, k, x.tiling);
  return FitsMatrix(x.codes, DType::kU8, lines, k) && FitsMatrix(x.scales, DType::kF32, scales[0], scales[1]);
}

ScaleView ViewOf(const Fp8Operand& x, Form form) {
  const int64_t pitch = x.scales.pitch;
  const int64_t lines = x.tiling == Tiling::kBlocks128x128 ? kTileSize : 1;
  const bool blocks_first = x.tiling == Tiling::kColumns128x1 || form == Form::kPlain;
  return {x.scales.as<float>(), blocks_first ? 1 : pitch, blocks_first ? pitch : 1, lines};
}

const char* NameOf(Tiling tiling) {
  switch (tiling) {
    case Tiling::kRows1x128: return "1x128";
    case Tiling::kBlocks128x128: return "128x128";
    case Tiling::kColumns128x1: return "128x1";
  }
  return "?";
}

}  // namespace

ScaleView Fp8GemmDesc::a_scales() const { return ViewOf(a, Form::kTransposed); }
ScaleView Fp8GemmDesc::b_scales() const { return ViewOf(b, b_form); }

void Fp8GemmDesc::Validate() const {
  bool fits = Fits(a, m(), k());
  if (b_form == Form::kTransposed) {
    fits = fits && Fits(b, n(), k());
  } else {
    fits = fits && b.tiling == Tiling::kBlocks128x128 && Fits(b, k(), n());
  }
  fits = fits && (c.dtype == DType::kF32 || c.dtype == DType::kBF16) && FitsMatrix(c, c.dtype, m(), n());
  JEVONS_CHECK(fits, "not a product of FP8 operands: %s", ToString().c_str());
}

std::string Fp8GemmDesc::ToString() const {
  const auto operand = [](const Fp8Operand& x) {
    return absl::StrFormat("%s by %s %s", x.codes.ToString(), NameOf(x.tiling), x.scales.ToString());
  };
  return absl::StrFormat("c: %s %s a: %s b%s: %s%s", c.ToString(), mode == WriteMode::kAdd ? "+=" : "=", operand(a),
                         b_form == Form::kTransposed ? "^T" : "", operand(b), promote ? "" : ", not promoted");
}

void Fp8Gemm(const OpContext& ctx, const Fp8GemmDesc& desc) { GroupedFp8Gemm(ctx, {&desc, 1}); }

void GroupedFp8Gemm(const OpContext& ctx, std::span<const Fp8GemmDesc> descs) {
  for (const Fp8GemmDesc& desc : descs) desc.Validate();
  Ops(ctx.stream).grouped_fp8_gemm(ctx, descs);
}

}  // namespace jevons
