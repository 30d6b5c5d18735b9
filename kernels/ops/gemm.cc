#include "kernels/ops/gemm.h"

#include <array>

#include "absl/strings/str_format.h"
#include "kernels/base/environment.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/cuda/gemm.h"

namespace jevons {
namespace {

// Rows and columns that an operand has in memory for a logical rows x cols.
bool Lies(const Tensor& t, Form form, int64_t rows, int64_t cols) {
  return form == Form::kPlain ? t.rows() == rows && t.cols() == cols : t.rows() == cols && t.cols() == rows;
}

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

}  // namespace

void GemmDesc::Validate() const {
  const bool fits = Lies(a, a_form, m(), k()) && Lies(b, b_form, k(), n());
  const bool types = IsFloat(a.dtype) && a.dtype == b.dtype && IsFloat(c.dtype);
  const bool pitches = (a.rows() <= 1 || a.pitch >= a.cols()) && (b.rows() <= 1 || b.pitch >= b.cols()) &&
                       (c.rows() <= 1 || c.pitch >= c.cols());
  const bool present = (a.data || a.size() == 0) && (b.data || b.size() == 0) && (c.data || c.size() == 0);
  JEVONS_CHECK(fits && types && pitches && present, "not a product: %s", ToString().c_str());
}

std::string GemmDesc::ToString() const {
  const auto form = [](Form f) { return f == Form::kTransposed ? "^T" : ""; };
  return absl::StrFormat("c: %s %s a%s: %s b%s: %s", c.ToString(), mode == WriteMode::kAdd ? "+=" : "=",
                         form(a_form), a.ToString(), form(b_form), b.ToString());
}

void Gemm(const OpContext& ctx, const GemmDesc& desc) { GroupedGemm(ctx, {&desc, 1}); }

void GroupedGemm(const OpContext& ctx, std::span<const GemmDesc> descs) {
  for (const GemmDesc& desc : descs) desc.Validate();
  if (ctx.stream.backend() == Device::kCuda) return cuda::GroupedGemm(ctx, descs);
  if (ctx.stream.device == Device::kNone) return;  // the CPU's products take nothing of the arena
  for (size_t begin = 0, end; begin < descs.size(); begin = end) {
    const DType in = descs[begin].a.dtype;
    for (end = begin + 1; end < descs.size() && descs[end].a.dtype == in; ++end) continue;
    cpu::ChosenGemmImpl(in).run(descs.subspan(begin, end - begin));
  }
}

std::string GemmImplementation(DType dtype, Device device) {
  return device == Device::kCuda ? cuda::GemmImplementation() : cpu::ChosenGemmImpl(dtype).describe(dtype);
}

namespace cpu {
namespace {

constexpr std::array kImpls = {&kGemmAmx, &kGemmDot, &kGemmFma, &kGemmRef};

struct Choice {
  const GemmImpl* forced = nullptr;
  const GemmImpl *f32 = nullptr, *bf16 = nullptr;

  void Decide() {
    f32 = Best(DType::kF32);
    bf16 = Best(DType::kBF16);
  }
  const GemmImpl* Best(DType in) const {
    if (forced != nullptr && forced->refusal(in).empty()) return forced;
    for (const GemmImpl* impl : kImpls) {
      if (impl->refusal(in).empty() && impl->demerit(in).empty()) return impl;
    }
    return &kGemmRef;
  }
};

const GemmImpl* FindImpl(absl::string_view name) {
  for (const GemmImpl* impl : kImpls) {
    if (impl->name == name) return impl;
  }
  return nullptr;
}

Choice FromEnvironment() {
  Choice choice;
  std::array<const char*, kImpls.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kImpls[i]->name;
  if (const auto forced = EnvironmentChoice("JEVONS_GEMM", names)) choice.forced = kImpls[*forced];
  choice.Decide();
  return choice;
}

Choice& TheChoice() {
  static Choice choice = FromEnvironment();
  return choice;
}

}  // namespace

std::span<const GemmImpl* const> GemmImpls() { return kImpls; }

const GemmImpl& ChosenGemmImpl(DType in) { return in == DType::kF32 ? *TheChoice().f32 : *TheChoice().bf16; }

bool ForceGemmImpl(absl::string_view name) {
  const GemmImpl* impl = FindImpl(name);
  if (impl == nullptr && !name.empty()) return false;
  TheChoice().forced = impl;
  TheChoice().Decide();
  return true;
}

}  // namespace cpu
}  // namespace jevons
