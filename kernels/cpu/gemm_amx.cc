// Gemm on the tiles of AMX.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/fp8_gemm.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/cpu/gemm_plan.h"

// No code is made for them: they cannot feed tiles.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_amx.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/amx-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

#if JEVONS_TARGET_HAS_TILES

struct PlainProduct {
  void BeginStrip(Range) {}
  void Multiply(int64_t m, int64_t n, int64_t /*column*/, const TileOperands& x, float* sums, int64_t pitch, bool first) {
    MultiplyBlock(m, n, x, sums, pitch, first);
  }
};

void RunOnTiles(const GemmTile& tile, const GemmScratch& scratch) {
  RunRectangleOnTiles<DotWords>(tile, scratch, [](const GemmDesc&, Range) { return PlainProduct(); });
}

TileFunction AmxFunction() { return RunOnTiles; }
#else
TileFunction AmxFunction() { return nullptr; }
#endif

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {

HWY_EXPORT(AmxFunction);

const GemmImpl kGemmAmx = {
    .name = "amx",
    .describe = [](DType) { return std::string("cpu AMX"); },
    .refusal = [](DType in) -> std::string {
      if (in != DType::kBF16) return "its operands are BF16";
      if (HWY_DYNAMIC_DISPATCH(AmxFunction)() == nullptr) return "it packs operands by AVX-512";
      return AmxProblem();
    },
    .demerit = [](DType) { return std::string(); },
    .run = [](std::span<const GemmDesc> descs) { RunTiles(descs, HWY_DYNAMIC_DISPATCH(AmxFunction)()); },
    .run_fp8 = RunFp8Amx,
};

}  // namespace jevons::cpu
#endif  // HWY_ONCE
