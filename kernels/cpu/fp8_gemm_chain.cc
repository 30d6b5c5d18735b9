// Products of FP8 codes whose sums never leave the tensor core: TensorCoreStep (kernels/fp8/tensor_core.h) on
// vectors of columns, compiled once per instruction set.
//
// A term cut to 13 bits below 2^e is trunc(term * 2^(13-e)), an integer of at most 15 bits and a sign; 33 of
// them add up exactly in FP32 in any order, and the sum is cut to 14 bits by clearing 10 of its mantissa. So
// a step takes two passes over its products: the largest exponent, then the sum. The bits are those of
// TensorCoreStep unless the accumulator is a subnormal number, which no product of codes can leave behind.
#include "kernels/cpu/fp8_gemm.h"
#include "kernels/fp8/tensor_core.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // no code is made for them: no fused multiply-add
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fp8_gemm_chain.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/fp8_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
Fp8TileFunction ChainFunction() { return nullptr; }
#else

namespace {

constexpr int64_t kChainRows = 4;  // rows at a time: four chains hide the latency of each
constexpr uint32_t kExponentMask = 0x7F800000u;

// 2^e of decoded codes as TensorCoreStep takes e: subnormals have the smallest normal one; zeros give 0,
// which is below every power.
void PowersOf(const float* values, int64_t n, float* powers) {
  const D d;
  const V mask = hn::BitCast(d, hn::Set(hn::RebindToUnsigned<D>(), kExponentMask));
  for (int64_t i = 0; i < n; i += kLanes) {
    const V value = hn::LoadU(d, values + i);
    const V power = hn::Min(hn::Max(hn::And(value, mask), hn::Set(d, 0x1p-6f)), hn::Set(d, 0x1p8f));
    hn::StoreU(hn::IfThenZeroElse(hn::Eq(value, hn::Zero(d)), power), d, powers + i);
  }
}

// A block of 128 terms of some rows and of all columns of a rectangle: decoded, and their powers.
struct ChainArgs {
  const float *a, *a_powers;  // [rows, kTileSize]
  const float *b, *b_powers;  // panels of one vector: [terms, kLanes]
  int64_t terms;
  const float* a_scales;  // [rows]
  const float* b_scales;  // [cols]
  float* sums;            // [rows, kTileCols]
  bool first;             // start from zero instead of from sums
};

// c after the step of `terms` <= 32 products from `begin` on, for kM rows and a vector of columns.
template <int64_t kM>
HWY_INLINE void Step(const ChainArgs& args, int64_t begin, int64_t terms, V (&c)[kM]) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const V mask = hn::BitCast(d, hn::Set(du, kExponentMask));
  V largest[kM], inverse[kM], sum[kM];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kM; ++i) largest[i] = hn::And(c[i], mask);
  for (int64_t l = begin; l < begin + terms; ++l) {
    const V power = hn::LoadU(d, args.b_powers + l * kLanes);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kM; ++i) {
      const V product = hn::Mul(hn::Set(d, args.a_powers[i * kTileSize + l]), power);
      largest[i] = hn::Max(largest[i], product);
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kM; ++i) {
    // Without a term, or with an infinite one, any power will do.
    const auto usable = hn::And(hn::Gt(largest[i], hn::Zero(d)), hn::Lt(largest[i], mask));
    largest[i] = hn::IfThenElse(usable, largest[i], hn::Set(d, 1.0f));
    const auto inverse_of_one = hn::Set(du, uint32_t{2 * 127 + TensorCore::kFractionBits} << 23);
    inverse[i] = hn::BitCast(d, hn::Sub(inverse_of_one, hn::BitCast(du, largest[i])));
    sum[i] = hn::Add(hn::Zero(d), hn::Trunc(hn::Mul(c[i], inverse[i])));  // never -0
  }
  for (int64_t l = begin; l < begin + terms; ++l) {
    const V b = hn::LoadU(d, args.b + l * kLanes);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kM; ++i) {
      const V product = hn::Mul(hn::Set(d, args.a[i * kTileSize + l]), b);
      sum[i] = hn::Add(sum[i], hn::Trunc(hn::Mul(product, inverse[i])));
    }
  }
  const V kept = hn::BitCast(d, hn::Set(du, ~((1u << (23 - TensorCore::kFractionBits)) - 1u)));
  const V one_unit = hn::Set(d, 1.0f / (1 << TensorCore::kFractionBits));
#pragma GCC unroll 8
  for (int64_t i = 0; i < kM; ++i) c[i] = hn::Mul(hn::And(sum[i], kept), hn::Mul(largest[i], one_unit));
}

// sums = the chain continued over the block, for kM rows and the first `cols` columns.
template <int64_t kM>
void RunChains(ChainArgs args, int64_t cols) {
  const D d;
  for (int64_t j = 0; j < cols; j += kLanes) {
    const V b_scale = hn::LoadU(d, args.b_scales + j);
    V c[kM], scale[kM];
#pragma GCC unroll 8
    for (int64_t i = 0; i < kM; ++i) {
      scale[i] = hn::Mul(hn::Set(d, args.a_scales[i]), b_scale);
      c[i] = args.first ? hn::Zero(d) : hn::Div(hn::LoadU(d, args.sums + i * kTileCols + j), scale[i]);
    }
    for (int64_t l = 0; l < args.terms; l += TensorCore::kProducts) {
      Step<kM>(args, l, std::min<int64_t>(TensorCore::kProducts, args.terms - l), c);
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < kM; ++i) {
      hn::StoreU(hn::Mul(c[i], scale[i]), d, args.sums + i * kTileCols + j);
    }
    args.b += args.terms * kLanes;
    args.b_powers += args.terms * kLanes;
  }
}

// B's block goes to scratch.slab, A's rows, a few at a time, to scratch.strip.
static_assert(2 * kTileSize <= kSlabDepth && 2 * kChainRows * kTileSize <= kStripRows * kSlabDepth);

void PackB(const GemmDesc& shared, Range cols, int64_t begin, ChainArgs& args, float* to) {
  const uint8_t* b = shared.b.as<uint8_t>();
  const int64_t pitch = shared.b.pitch;
  args.b = to;
  args.b_powers = to + kTileSize * kTileCols;
  for (int64_t j = cols.begin; j < cols.end; j += kLanes, to += args.terms * kLanes) {
    const int64_t n = std::min(kLanes, cols.end - j);
    if (shared.b_form == Form::kPlain) {
      PackPlain<CodeWords>(b + begin * pitch + j, pitch, args.terms, n, kLanes, to);
    } else {
      PackTransposed<CodeWords>(b + j * pitch + begin, pitch, args.terms, n, kLanes, to);
    }
    PowersOf(to, args.terms * kLanes, to + kTileSize * kTileCols);
  }
}

// One product's rows with one block of terms.
void RunBlock(const Fp8GemmDesc& desc, Range rows, Range cols, int64_t begin, ChainArgs args, float* strip) {
  const ScaleView a_scales = desc.a_scales();
  float row_scales[kChainRows];
  alignas(64) float b_scales[kTileCols] = {};
  SpreadScales(desc.b_scales(), cols, begin / kTileSize, 1, b_scales, kTileCols);
  args.a = strip;
  args.a_powers = strip + kChainRows * kTileSize;
  args.a_scales = row_scales;
  args.b_scales = b_scales;
  for (int64_t row = rows.begin; row < rows.end; row += kChainRows, args.sums += kChainRows * kTileCols) {
    const int64_t count = std::min(kChainRows, rows.end - row);
    for (int64_t i = 0; i < count; ++i) {
      PackRow<CodeWords>(desc.a.codes.row<uint8_t>(row + i) + begin, args.terms, strip + i * kTileSize);
      row_scales[i] = a_scales(row + i, begin / kTileSize);
    }
    PowersOf(strip, count * kTileSize, strip + kChainRows * kTileSize);
    constexpr decltype(&RunChains<1>) kRun[] = {RunChains<1>, RunChains<2>, RunChains<3>, RunChains<4>};
    kRun[count - 1](args, cols.size());
  }
}

void RunTile(const Fp8Products& products, const GemmTile& tile, const GemmScratch& scratch) {
  const GemmDesc& shared = tile.descs.front();
  for (int64_t begin = 0; begin < shared.k(); begin += kTileSize) {
    ChainArgs args{};
    args.terms = std::min(kTileSize, shared.k() - begin);
    args.first = begin == 0;
    args.sums = scratch.state;
    PackB(shared, tile.cols, begin, args, scratch.slab);
    ForEachProduct(tile, [&](const GemmDesc& product, Range rows) {
      const Fp8GemmDesc& desc = products.Of(product);
      RunBlock(desc, rows, tile.cols, begin, args, scratch.strip);
      if (begin + args.terms == shared.k()) WriteRectangle(desc, rows, tile.cols, args.sums);
      args.sums += rows.size() * kTileCols;
    });
  }
}

}  // namespace

Fp8TileFunction ChainFunction() { return RunTile; }

#endif  // a target with vectors

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {

HWY_EXPORT(ChainFunction);
void RunFp8Chains(std::span<const Fp8GemmDesc> descs) { RunFp8Products(descs, HWY_DYNAMIC_DISPATCH(ChainFunction)()); }

}  // namespace jevons::cpu
#endif  // HWY_ONCE
