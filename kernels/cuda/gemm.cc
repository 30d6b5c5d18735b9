#include "kernels/cuda/gemm.h"

#include <array>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/base/environment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gemm_lt.h"
#include "kernels/cuda/report.h"
#include "kernels/tensor/device.h"

namespace jevons::cuda {
namespace {

constexpr std::array kNames = {"wgmma", "cublaslt", "plain"};

GemmImpl FromEnvironment() {
  const auto named = EnvironmentChoice("JEVONS_CUDA_GEMM", kNames);
  return named ? static_cast<GemmImpl>(*named) : GemmImpl::kCublasLt;
}

GemmImpl& TheBegin() {
  static GemmImpl begin = FromEnvironment();
  return begin;
}

// What needs no product: nothing to compute, or a sum of no terms.
template <class Desc>
bool IsEmpty(const OpContext& ctx, const Desc& desc) {
  if (desc.m() == 0 || desc.n() == 0) return true;
  if (desc.k() > 0) return false;
  if (desc.mode == WriteMode::kOverwrite) Zero(ctx.stream, desc.c);
  return true;
}

// On kNone: what the library takes for the product, if it is asked; nobody else takes anything.
template <class Desc>
bool Counted(const OpContext& ctx, bool (&by_library)(const OpContext&, const Desc&), bool is_asked, const Desc& desc) {
  if (ctx.stream.device != Device::kNone) return false;
  if (is_asked) by_library(ctx, desc);
  return true;
}

bool LibraryIsAsked() { return TheBegin() != GemmImpl::kPlain; }
bool LibraryIsAsked(const Fp8GemmDesc& desc) { return LibraryIsAsked() && desc.promote; }

}  // namespace

GemmImpl BeginOfGemmList() { return TheBegin(); }
void BeginGemmListAt(GemmImpl impl) { TheBegin() = impl; }

std::string ProductImplementation(DType) {
  if (TheBegin() == GemmImpl::kPlain) return "plain";
  return (TheBegin() == GemmImpl::kWgmma ? "wgmma for FP8, cublaslt " : "cublaslt ") + LtVersion();
}

void GroupedGemm(const OpContext& ctx, std::span<const GemmDesc> descs) {
  for (const GemmDesc& desc : descs) {
    if (IsEmpty(ctx, desc) || Counted(ctx, LtGemm, LibraryIsAsked(), desc)) continue;
    if (LibraryIsAsked()) {
      if (LtGemm(ctx, desc)) {
        CountServed(&Served::cublaslt);
        continue;
      }
      CountFallback("cuBLASLt refuses the product " + desc.ToString());
    }
    PlainGemm(ctx, desc);
    CountServed(&Served::plain);
  }
}

namespace {

std::string Describe(const Fp8GemmDesc& d) {
  return absl::StrFormat("the FP8 product of %d x %d x %d (scales %d and %d, b %s, to %s)", d.m(), d.n(), d.k(),
                         static_cast<int>(d.a.tiling), static_cast<int>(d.b.tiling),
                         d.b_form == Form::kPlain ? "plain" : "turned", d.c.dtype == DType::kF32 ? "FP32" : "BF16");
}

// What the own kernel does not take.
void Fp8GemmByTheRest(const OpContext& ctx, const Fp8GemmDesc& desc) {
  if (LibraryIsAsked(desc)) {
    if (LtFp8Gemm(ctx, desc)) return CountServed(&Served::cublaslt);
    CountFallback("cuBLASLt refuses " + Describe(desc));
  }
  PlainFp8Gemm(ctx, desc);
  CountServed(&Served::plain);
}

}  // namespace

void GroupedFp8Gemm(const OpContext& ctx, std::span<const Fp8GemmDesc> descs) {
  std::vector<Fp8GemmDesc> together;
  for (const Fp8GemmDesc& desc : descs) {
    if (IsEmpty(ctx, desc) || Counted(ctx, LtFp8Gemm, LibraryIsAsked(desc), desc)) continue;
    if (TheBegin() == GemmImpl::kWgmma && WgmmaServes(desc)) {
      together.push_back(desc);
      continue;
    }
    if (TheBegin() == GemmImpl::kWgmma && desc.promote) CountFallback("the wgmma kernel does not take " + Describe(desc));
    Fp8GemmByTheRest(ctx, desc);
  }
  if (together.empty()) return;
  WgmmaFp8Gemms(ctx, together);
  CountServed(&Served::wgmma, static_cast<int64_t>(together.size()));
}

}  // namespace jevons::cuda
