// Who serves the CPU's products.
#include "kernels/cpu/gemm_impl.h"

#include <array>

#include "kernels/base/environment.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/fp8_gemm.h"
#include "kernels/ref/ref_ops.h"

namespace jevons::cpu {
namespace {

std::string Nothing(DType) { return ""; }

}  // namespace

const GemmImpl kGemmRef = {
    .name = "ref",
    .describe = [](DType) { return std::string("ref"); },
    .refusal = Nothing,
    .demerit = Nothing,
    .run = [](std::span<const GemmDesc> descs) { ref::GroupedGemm({}, descs); },
    .run_fp8 = [](std::span<const Fp8GemmDesc> descs) { ref::GroupedFp8Gemm({}, descs); },
};

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

bool GemmImplIsForced() { return TheChoice().forced != nullptr; }

bool ForceGemmImpl(absl::string_view name) {
  const GemmImpl* impl = FindImpl(name);
  if (impl == nullptr && !name.empty()) return false;
  TheChoice().forced = impl;
  TheChoice().Decide();
  return true;
}

// Products of one operand type after the other, as far as they stand together.
void GroupedGemm(const OpContext&, std::span<const GemmDesc> descs) {
  for (size_t begin = 0, end; begin < descs.size(); begin = end) {
    const DType in = descs[begin].a.dtype;
    for (end = begin + 1; end < descs.size() && descs[end].a.dtype == in; ++end) continue;
    ChosenGemmImpl(in).run(descs.subspan(begin, end - begin));
  }
}

void GroupedFp8Gemm(const OpContext&, std::span<const Fp8GemmDesc> descs) {
  const GemmImpl& impl = ChosenGemmImpl(DType::kBF16);
  for (size_t begin = 0, end; begin < descs.size(); begin = end) {
    end = begin + 1;
    if (descs[begin].k() == 0) {
      kGemmRef.run_fp8(descs.subspan(begin, 1));  // zeros
      continue;
    }
    while (end < descs.size() && descs[end].k() > 0 && descs[end].promote == descs[begin].promote) ++end;
    const auto alike = descs.subspan(begin, end - begin);
    descs[begin].promote || &impl == &kGemmRef ? impl.run_fp8(alike) : RunFp8Chains(alike);
  }
}

std::string ProductImplementation(DType in) { return ChosenGemmImpl(in).describe(in); }

}  // namespace jevons::cpu
