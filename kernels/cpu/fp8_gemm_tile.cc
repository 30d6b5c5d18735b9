// The loops of one rectangle of C, compiled once per instruction set: those of gemm_tile.cc, with operands
// that are decoded as they are packed.
#include <vector>

#include "kernels/cpu/fp8_gemm.h"
#include "kernels/cpu/gemm_plan.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // no code is made for them: no fused multiply-add
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fp8_gemm_tile.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/fp8_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
Fp8TileFunction TileFunctionOf(TermOrder) { return nullptr; }
#else

namespace {

// One slab of one product's operands, on its way through the loops.
template <typename Words>
struct CodeSlab {
  static constexpr int64_t kSlabTerms = kSlabDepth * Words::kTerms;
  static constexpr int64_t kSlabBlocks = kSlabTerms / kTileSize;
  static_assert(kSlabTerms % kTileSize == 0 && kTileSize % Words::kTerms == 0);

  const Fp8GemmDesc& desc;
  int64_t begin, terms;  // the slab is k = [begin, begin + terms)
  bool first, last;      // slab of k
  Range cols;            // of C
  const GemmScratch& scratch;
  float a_scales[kSlabBlocks * kStripRows] = {};
  alignas(64) float b_scales[kSlabBlocks * kTileCols] = {};  // zero beyond the last column

  int64_t depth() const { return WordsIn<Words>(terms); }
  int64_t first_block() const { return begin / kTileSize; }
  int64_t blocks() const { return TilesOf(terms); }
  static int64_t RoundUpToLanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

  void PackB() const {
    const uint8_t* b = desc.b.codes.as<uint8_t>();
    const int64_t pitch = desc.b.codes.pitch;
    float* to = scratch.slab;
    for (int64_t j = cols.begin; j < cols.end; j += kPanel, to += kPanel * depth()) {
      const int64_t n = std::min(kPanel, cols.end - j), width = RoundUpToLanes(n);
      if (desc.b_form == Form::kPlain) {
        PackPlain<Words>(b + begin * pitch + j, pitch, terms, n, width, to);
      } else {
        PackTransposed<Words>(b + j * pitch + begin, pitch, terms, n, width, to);
      }
    }
  }

  // Rows [row, row + rows) of A and their scales.
  void PackA(int64_t row, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) {
      PackRow<Words>(desc.a.codes.row<uint8_t>(row + i) + begin, terms, scratch.strip + i * kSlabDepth);
    }
    SpreadScales(desc.a_scales(), {row, row + rows}, first_block(), blocks(), a_scales, kStripRows);
  }

  // All panels of `rows` <= kRows rows from `row` on, the `i`-th of the strip. Sums that are not yet C's are
  // kept at `state`, rows kTileCols apart; without another slab to come the same few lines of cache do.
  template <typename Out>
  void RunRows(int64_t i, int64_t row, int64_t rows, float* state) const {
    static constexpr ScaledTable kTable = MakeScaledTable<Words>();
    Out* c = desc.c.row<Out>(row);
    ScaledArgs args{};
    args.a = scratch.strip + i * kSlabDepth;
    args.b = scratch.slab;
    args.depth = depth();
    args.a_scales = a_scales + i;
    args.first = first;
    for (int64_t j = cols.begin; j < cols.end; j += kPanel, args.b += kPanel * depth()) {
      const int64_t n = std::min(kPanel, cols.end - j), width = RoundUpToLanes(n);
      const bool direct = std::is_same_v<Out, float> && desc.mode == WriteMode::kOverwrite && n == width;
      args.b_pitch = width;
      args.b_scales = b_scales + (j - cols.begin);
      args.sums = direct ? reinterpret_cast<float*>(c + j) : first && last ? state : state + (j - cols.begin);
      args.sums_pitch = direct ? desc.c.pitch : kTileCols;
      kTable[rows - 1][width / kLanes - 1](args);
      if (!direct && last) WriteOut(args.sums, args.sums_pitch, rows, n, desc.mode, c + j, desc.c.pitch);
    }
  }

  void RunProduct(Range rows, float* state) {
    SpreadScales(desc.b_scales(), cols, first_block(), blocks(), b_scales, kTileCols);
    for (int64_t row = rows.begin; row < rows.end; row += kStripRows) {
      const int64_t strip_rows = std::min(kStripRows, rows.end - row);
      PackA(row, strip_rows);
      for (int64_t i = 0; i < strip_rows; i += kRows) {
        const int64_t count = std::min(kRows, strip_rows - i);
        float* const at = first && last ? state : state + (row + i - rows.begin) * kTileCols;
        if (desc.c.dtype == DType::kF32) {
          RunRows<float>(i, row + i, count, at);
        } else {
          RunRows<bf16>(i, row + i, count, at);
        }
      }
    }
  }
};

template <typename Words>
void RunTile(const Fp8Products& products, const GemmTile& tile, const GemmScratch& scratch) {
  constexpr int64_t kSlabTerms = CodeSlab<Words>::kSlabTerms;
  const int64_t k = tile.descs.front().k();
  for (int64_t l = 0; l < k; l += kSlabTerms) {
    bool packed = false;
    float* state = scratch.state;
    ForEachProduct(tile, [&](const GemmDesc& product, Range rows) {
      CodeSlab<Words> slab{products.Of(product), l, std::min(kSlabTerms, k - l), l == 0, l + kSlabTerms >= k, tile.cols, scratch};
      if (!packed) slab.PackB();
      packed = true;
      slab.RunProduct(rows, state);
      state += rows.size() * kTileCols;
    });
  }
}

}  // namespace

Fp8TileFunction TileFunctionOf(TermOrder order) {
#if HWY_TARGET <= HWY_AVX3  // or better
  if (order == TermOrder::kPairs) return RunTile<CodePairWords>;
#endif
  return order == TermOrder::kAscending ? RunTile<CodeWords> : nullptr;
}

#endif  // a target with vectors

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {

HWY_EXPORT(TileFunctionOf);

void RunFp8Tiles(std::span<const Fp8GemmDesc> descs, TermOrder order) {
  RunFp8Products(descs, HWY_DYNAMIC_DISPATCH(TileFunctionOf)(order));
}

void RunFp8Products(std::span<const Fp8GemmDesc> descs, Fp8TileFunction run_tile) {
  JEVONS_CHECK(run_tile != nullptr, "this CPU cannot run the chosen products of FP8 codes");
  thread_local std::vector<GemmDesc> codes;  // kept, so that a step allocates nothing
  codes.clear();
  for (const Fp8GemmDesc& d : descs) {
    codes.push_back({.a = d.a.codes, .b = d.b.codes, .c = d.c, .b_form = d.b_form, .mode = d.mode});
  }
  const Fp8Products products{codes, descs};
  RunTiles(codes, [&](const GemmTile& tile, const GemmScratch& scratch) { run_tile(products, tile, scratch); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
