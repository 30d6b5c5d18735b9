// The CPU's own kernel as two implementations, one per order of terms.
#include "absl/strings/str_format.h"
#include "kernels/cpu/fp8_gemm.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/cpu/gemm_plan.h"

namespace jevons::cpu {
namespace {

std::string DotRefusal(DType in) {
  if (in != DType::kBF16) return "its operands are BF16";
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512bf16") && BestTileKernel() && BestTileKernel()->pairs) return "";
#endif
  return "this CPU has no avx512_bf16";
}

// Measured: on AMD's Zen 5 vdpbf16ps issues as often as an FMA and does twice the work (476 against 255
// GFLOP/s); on Intel's Emerald Rapids half as often, so that the FMA kernel is as fast there and keeps
// denormals.
std::string DotDemerit(DType) {
#ifdef __x86_64__
  if (__builtin_cpu_is("amd")) return "";
#endif
  return "only AMD's CPUs gain by vdpbf16ps";
}

}  // namespace

const GemmImpl kGemmDot = {
    .name = "dot",
    .describe = [](DType) { return absl::StrFormat("cpu %s vdpbf16ps", BestTileKernel()->target); },
    .refusal = DotRefusal,
    .demerit = DotDemerit,
    .run = [](std::span<const GemmDesc> descs) { RunTiles(descs, BestTileKernel()->pairs); },
    .run_fp8 = [](std::span<const Fp8GemmDesc> descs) { RunFp8Tiles(descs, TermOrder::kPairs); },
};

const GemmImpl kGemmFma = {
    .name = "cpu",
    .describe = [](DType) { return absl::StrFormat("cpu %s", BestTileKernel()->target); },
    .refusal = [](DType) { return std::string(BestTileKernel() ? "" : "this CPU has no fused multiply-add"); },
    .demerit = [](DType) { return std::string(); },
    .run = [](std::span<const GemmDesc> descs) { RunTiles(descs, BestTileKernel()->ascending); },
    .run_fp8 = [](std::span<const Fp8GemmDesc> descs) { RunFp8Tiles(descs, TermOrder::kAscending); },
};

}  // namespace jevons::cpu
