#include "kernels/fp8/gemm.h"

#include "absl/strings/str_format.h"
#include "kernels/cpu/fp8_gemm.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/cuda/gemm.h"
#include "kernels/ref/fp8_gemm.h"

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

void RunRef(const Fp8GemmDesc& desc) {
  (desc.c.dtype == DType::kF32 ? ref::Fp8Gemm<float, float> : ref::Fp8Gemm<float, bf16>)(desc);
}

// Products with k > 0, all promoted or none.
void RunAlike(std::span<const Fp8GemmDesc> descs) {
  const cpu::GemmImpl& impl = cpu::ChosenGemmImpl(DType::kBF16);
  if (&impl == &cpu::kGemmRef) {
    for (const Fp8GemmDesc& desc : descs) RunRef(desc);
  } else if (!descs.front().promote) {
    cpu::RunFp8Chains(descs);
  } else if (&impl == &cpu::kGemmAmx) {
    cpu::RunFp8Amx(descs);
  } else {
    cpu::RunFp8Tiles(descs, &impl == &cpu::kGemmDot ? cpu::TermOrder::kPairs : cpu::TermOrder::kAscending);
  }
}

const char* NameOf(Tiling tiling) {
  switch (tiling) {
    case Tiling::kRows1x128:
      return "1x128";
    case Tiling::kBlocks128x128:
      return "128x128";
    case Tiling::kColumns128x1:
      return "128x1";
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
  return absl::StrFormat("c: %s %s a: %s b%s: %s%s", c.ToString(), mode == WriteMode::kAdd ? "+=" : "=",
                         operand(a), b_form == Form::kTransposed ? "^T" : "", operand(b),
                         promote ? "" : ", not promoted");
}

void Fp8Gemm(const OpContext& ctx, const Fp8GemmDesc& desc) { GroupedFp8Gemm(ctx, {&desc, 1}); }

void GroupedFp8Gemm(const OpContext& ctx, std::span<const Fp8GemmDesc> descs) {
  for (const Fp8GemmDesc& desc : descs) desc.Validate();
  if (ctx.stream.backend() == Device::kCuda) return cuda::GroupedFp8Gemm(ctx, descs);
  if (ctx.stream.device == Device::kNone) return;
  for (size_t begin = 0, end; begin < descs.size(); begin = end) {
    end = begin + 1;
    if (descs[begin].k() == 0) {
      RunRef(descs[begin]);  // zeros
      continue;
    }
    while (end < descs.size() && descs[end].k() > 0 && descs[end].promote == descs[begin].promote) ++end;
    RunAlike(descs.subspan(begin, end - begin));
  }
}

}  // namespace jevons
