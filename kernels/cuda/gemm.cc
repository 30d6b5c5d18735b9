#include "kernels/cuda/gemm.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cuda/gemm_lt.h"
#include "kernels/tensor/device.h"

namespace jevons::cuda {
namespace {

constexpr std::array kNames = {"wgmma", "cublaslt", "plain"};

GemmImpl FromEnvironment() {
  const char* name = std::getenv("JEVONS_CUDA_GEMM");
  if (name == nullptr || *name == '\0') return GemmImpl::kCublasLt;
  for (size_t i = 0; i < kNames.size(); ++i)
    if (std::strcmp(name, kNames[i]) == 0) return static_cast<GemmImpl>(i);
  CheckFailed(__FILE__, __LINE__, "JEVONS_CUDA_GEMM",
              "no implementation is called '%s'; say wgmma, cublaslt or plain, or unset it", name);
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

}  // namespace

GemmImpl BeginOfGemmList() { return TheBegin(); }
void BeginGemmListAt(GemmImpl impl) { TheBegin() = impl; }

std::string GemmImplementation() {
  return TheBegin() == GemmImpl::kPlain ? "plain" : "cublaslt " + LtVersion();
}

void GroupedGemm(const OpContext& ctx, std::span<const GemmDesc> descs) {
  for (const GemmDesc& desc : descs) {
    if (IsEmpty(ctx, desc)) continue;
    if (TheBegin() == GemmImpl::kPlain || !LtGemm(ctx, desc)) PlainGemm(ctx, desc);
  }
}

void GroupedFp8Gemm(const OpContext& ctx, std::span<const Fp8GemmDesc> descs) {
  const GemmImpl begin = TheBegin();
  std::vector<Fp8GemmDesc> together;
  for (const Fp8GemmDesc& desc : descs) {
    if (IsEmpty(ctx, desc)) continue;
    if (begin == GemmImpl::kWgmma && WgmmaServes(desc)) {
      together.push_back(desc);
    } else if (begin == GemmImpl::kPlain || !desc.promote || !LtFp8Gemm(ctx, desc)) {
      PlainFp8Gemm(ctx, desc);
    }
  }
  if (!together.empty()) WgmmaFp8Gemms(ctx, together);
}

}  // namespace jevons::cuda
