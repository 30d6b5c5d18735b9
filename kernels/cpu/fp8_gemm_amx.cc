// Products of FP8 codes on the tiles of AMX: decoded to BF16 as they are packed; each block of 128 terms is summed on tiles, scaled,
// and added to C's sums.
#include "kernels/cpu/fp8_gemm.h"

// No code is made for them: they cannot feed tiles.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fp8_gemm_amx.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/amx-inl.h"
#include "kernels/cpu/fp8_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

#if JEVONS_TARGET_HAS_TILES

// One slab of k of one product, and its scales.
struct ScaledProduct {
  static constexpr int64_t kSlabBlocks = kTileSlabTerms / kTileSize;
  static constexpr int64_t kBlockSteps = kTileSize / kTileTerms;
  static_assert(kTileSlabTerms % kTileSize == 0 && kTileSize % kTileTerms == 0);

  const Fp8GemmDesc& desc;
  Range first_blocks;  // of 128 terms
  float a_scales[kSlabBlocks * kBlockLines] = {};
  alignas(64) float b_scales[kSlabBlocks * kTileCols] = {};  // zero beyond the last column

  ScaledProduct(const Fp8GemmDesc& product, Range terms, Range cols)
      : desc(product), first_blocks{terms.begin / kTileSize, TilesOf(terms.end)} {
    SpreadScales(desc.b_scales(), cols, first_blocks.begin, first_blocks.size(), b_scales, kTileCols);
  }

  void BeginStrip(Range rows) {
    SpreadScales(desc.a_scales(), rows, first_blocks.begin, first_blocks.size(), a_scales, kBlockLines);
  }

  // sums += the block's product * (a_scales * b_scales), block after block.
  void Multiply(int64_t m, int64_t n, int64_t column, const TileOperands& x, float* sums, int64_t pitch, bool first) const {
    const D d;
    alignas(64) float product[kBlockLines * kBlockLines];
    for (int64_t block = 0; block < first_blocks.size(); ++block) {
      const int64_t step = block * kBlockSteps;
      MultiplyBlock(m, n,
                    {x.a + step * kTileFloats, x.b + step * kTileFloats, x.tiles_apart, std::min(kBlockSteps, x.steps - step)},
                    product, kBlockLines, true);
      const bool from_zero = first && block == 0;
      for (int64_t i = 0; i < m; ++i) {
        const V a_scale = hn::Set(d, a_scales[block * kBlockLines + i]);
        for (int64_t j = 0; j < n; j += kLanes) {
          float* const to = sums + i * pitch + j;
          const V scale = hn::Mul(a_scale, hn::LoadU(d, b_scales + block * kTileCols + column + j));
          const V before = from_zero ? hn::Zero(d) : hn::LoadU(d, to);
          hn::StoreU(hn::Add(before, hn::Mul(hn::LoadU(d, product + i * kBlockLines + j), scale)), d, to);
        }
      }
    }
  }
};

void RunOnTiles(const Fp8Products& products, const GemmTile& tile, const GemmScratch& scratch) {
  RunRectangleOnTiles<CodePairWords>(
      tile, scratch, [&](const GemmDesc& product, Range terms) { return ScaledProduct(products.Of(product), terms, tile.cols); });
}

Fp8TileFunction Fp8AmxFunction() { return RunOnTiles; }
#else
Fp8TileFunction Fp8AmxFunction() { return nullptr; }
#endif

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {

HWY_EXPORT(Fp8AmxFunction);

void RunFp8Amx(std::span<const Fp8GemmDesc> descs) { RunFp8Products(descs, HWY_DYNAMIC_DISPATCH(Fp8AmxFunction)()); }

}  // namespace jevons::cpu
#endif  // HWY_ONCE
