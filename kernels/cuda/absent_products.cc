// What stands in for the CUDA backend's products in a build without it. What they would take of memory can be counted all the same.
#include "kernels/cuda/absent.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_fp8_layout.h"
#include "kernels/cuda/gemm_lt.h"

namespace jevons::cuda {

bool RunLt(const OpContext& ctx, const LtProduct&) {
  if (ctx.stream.device == Device::kNone) return CountLt(ctx);
  Absent("CUDA product");
}
std::string LtVersion() { Absent("CUDA product"); }
void PlainGemm(const OpContext&, const GemmDesc&) { Absent("CUDA product"); }
void PlainFp8Gemm(const OpContext&, const Fp8GemmDesc&) { Absent("CUDA product"); }
bool WgmmaServes(const Fp8GemmDesc&) { Absent("CUDA product"); }
void WgmmaFp8Gemms(const OpContext&, std::span<const Fp8GemmDesc>, int) { Absent("CUDA product"); }
void FillPaddedCodes(const OpContext&, const Tensor&, const Tensor&) { Absent("CUDA product"); }
void FillTransposedCodes(const OpContext&, const Tensor&, const Tensor&) { Absent("CUDA product"); }
void FillScales(const OpContext&, const ScaleView&, bool, int64_t, int64_t, const Tensor&) { Absent("CUDA product"); }

}  // namespace jevons::cuda
