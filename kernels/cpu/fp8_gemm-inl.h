// E4M3 codes as words of the packing routines of Gemm, and the micro-kernel that scales; compiled once per
// instruction set.
#if defined(JEVONS_KERNELS_CPU_FP8_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_FP8_GEMM_INL_H_
#undef JEVONS_KERNELS_CPU_FP8_GEMM_INL_H_
#else
#define JEVONS_KERNELS_CPU_FP8_GEMM_INL_H_
#endif

#include "kernels/cpu/fp8_gemm.h"
#include "kernels/cpu/gemm_micro-inl.h"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

struct Bf16Table {
  alignas(16) uint16_t bits[256];
};
constexpr Bf16Table MakeBf16Table() {
  Bf16Table table{};
  for (int code = 0; code < 256; ++code) {
    const float value = Decode<E4M3>(static_cast<uint8_t>(code));
    table.bits[code] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  }
  return table;
}
constexpr Bf16Table kBf16OfE4M3 = MakeBf16Table();

// BF16 bits of codes in 16-bit lanes. The exponent moves by the difference of the biases; the eight
// subnormal magnitudes are looked up, two bytes each.
template <class D16>
HWY_INLINE hn::Vec<D16> Bf16Bits(D16 d, hn::Vec<D16> codes) {
  const hn::Repartition<uint8_t, D16> d8;
  const auto magnitude = hn::And(codes, hn::Set(d, 0x7F));
  const auto normal = hn::Add(hn::ShiftLeft<4>(magnitude), hn::Set(d, (127 - E4M3::kBias) << 7));
  const auto bytes = hn::Add(hn::Mul(magnitude, hn::Set(d, 0x0202)), hn::Set(d, 0x0100));
  const auto table = hn::LoadDup128(d, kBf16OfE4M3.bits);
  const auto subnormal = hn::BitCast(d, hn::TableLookupBytes(hn::BitCast(d8, table), hn::BitCast(d8, bytes)));
  auto bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 8)), subnormal, normal);
  bits = hn::IfThenElse(hn::Eq(magnitude, hn::Set(d, E4M3::kNan)), hn::Set(d, 0x7FC0), bits);
  return hn::Or(bits, hn::ShiftLeft<8>(hn::And(codes, hn::Set(d, E4M3::kSign))));
}

template <class D16>
HWY_INLINE hn::Vec<D16> LoadBf16Bits(D16 d, const uint8_t* codes) {
  return Bf16Bits(d, hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, D16>(), codes)));
}

// BF16 bits of as many codes as D has lanes, widened to 32 bits, in the lower half.
HWY_INLINE auto LoadBits(D, const uint8_t* codes) {
  return hn::PromoteTo(hn::RebindToUnsigned<D>(), LoadBf16Bits(hn::Rebind<uint16_t, D>(), codes));
}

// Words of one term, as FmaWords.
struct CodeWords {
  using Element = uint8_t;
  static constexpr int64_t kTerms = 1;

  static HWY_INLINE V MulAdd(V a, V b, V sum) { return hn::MulAdd(a, b, sum); }
  static HWY_INLINE V Load(D d, const uint8_t* p) { return hn::BitCast(d, hn::ShiftLeft<16>(LoadBits(d, p))); }
  static HWY_INLINE float Word(const uint8_t* p, int64_t /*terms*/) {
    return std::bit_cast<float>(uint32_t{kBf16OfE4M3.bits[*p]} << 16);
  }
  static HWY_INLINE void StackRows(const uint8_t* p, int64_t /*pitch*/, int64_t terms, int64_t n, float* to) {
    const D d;
    int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) hn::StoreU(Load(d, p + j), d, to + j);
    for (; j < n; ++j) to[j] = Word(p + j, terms);
  }
};

#if HWY_TARGET <= HWY_AVX3  // or better
// Words of two terms, as DotWords.
struct CodePairWords {
  using Element = uint8_t;
  static constexpr int64_t kTerms = 2;

  static HWY_INLINE V MulAdd(V a, V b, V sum) { return DotWords::MulAdd(a, b, sum); }
  static HWY_INLINE V Load(D d, const uint8_t* p) { return hn::BitCast(d, LoadBf16Bits(hn::Repartition<uint16_t, D>(), p)); }
  static HWY_INLINE float Word(const uint8_t* p, int64_t terms) { return Join(p, terms > 1 ? p + 1 : nullptr); }
  static HWY_INLINE void StackRows(const uint8_t* p, int64_t pitch, int64_t terms, int64_t n, float* to) {
    const D d;
    int64_t j = 0;
    if (terms > 1) {
      for (; j + kLanes <= n; j += kLanes) {
        const auto upper = hn::ShiftLeft<16>(LoadBits(d, p + pitch + j));
        hn::StoreU(hn::BitCast(d, hn::Or(upper, LoadBits(d, p + j))), d, to + j);
      }
    }
    for (; j < n; ++j) to[j] = Join(p + j, terms > 1 ? p + pitch + j : nullptr);
  }

 private:
  static HWY_INLINE float Join(const uint8_t* lower, const uint8_t* upper) {
    const uint32_t upper_bits = upper != nullptr ? kBf16OfE4M3.bits[*upper] : 0u;
    return std::bit_cast<float>(uint32_t{kBf16OfE4M3.bits[*lower]} | upper_bits << 16);
  }
};
#endif

// to[block * to_pitch + i] = the scale of line lines.begin + i in block begin + block.
inline void SpreadScales(const ScaleView& scales, Range lines, int64_t begin, int64_t blocks, float* to, int64_t to_pitch) {
  for (int64_t block = begin; block < begin + blocks; ++block, to += to_pitch) {
    for (int64_t i = lines.begin, end; i < lines.end; i = end) {
      end = std::min((i / scales.lines + 1) * scales.lines, lines.end);
      std::fill(to + i - lines.begin, to + end - lines.begin, scales(i, block));
    }
  }
}

// C's rectangle = sums or C + sums, rounded once; sums [rows, kTileCols].
inline void WriteRectangle(const Fp8GemmDesc& desc, Range rows, Range cols, const float* sums) {
  const Tensor c = desc.c.Rows(rows.begin, rows.size()).Columns(cols.begin, cols.size());
  if (c.dtype == DType::kF32) {
    WriteOut(sums, kTileCols, c.rows(), c.cols(), desc.mode, c.as<float>(), c.pitch);
  } else {
    WriteOut(sums, kTileCols, c.rows(), c.cols(), desc.mode, c.as<bf16>(), c.pitch);
  }
}

// Operands in words: A's word (i,l) is a[i * kSlabDepth + l], B's (l,j) is b[l * b_pitch + j].
struct ScaledArgs {
  const float* a;
  const float* b;
  int64_t b_pitch;
  int64_t depth;          // words: blocks of 128 terms, the last may be shorter
  const float* a_scales;  // [blocks, kStripRows]
  const float* b_scales;  // [blocks, kTileCols]
  float* sums;            // [kM, kN * kLanes]
  int64_t sums_pitch;
  bool first;  // start from zero instead of from sums
};

// sums[i,j] += the block's product * (a_scales[i] * b_scales[j]), block after block, for kM rows and kN
// vectors of columns.
template <typename Words, int64_t kM, int64_t kN>
void ScaledMicroKernel(const ScaledArgs& args) {
  constexpr int64_t kBlockWords = kTileSize / Words::kTerms;
  const D d;
  const float* HWY_RESTRICT b = args.b;
  const int64_t b_pitch = args.b_pitch;
  for (int64_t block = 0; block * kBlockWords < args.depth; ++block) {
    const float* HWY_RESTRICT a = args.a + block * kBlockWords;
    const float* const a_end = args.a + std::min((block + 1) * kBlockWords, args.depth);
    V sum[kM][kN];
#pragma GCC unroll 8
    for (int64_t i = 0; i < kM; ++i) {
#pragma GCC unroll 8
      for (int64_t j = 0; j < kN; ++j) sum[i][j] = hn::Zero(d);
    }
    for (; a < a_end; ++a, b += b_pitch) {
      V bv[kN];
#pragma GCC unroll 8
      for (int64_t j = 0; j < kN; ++j) bv[j] = hn::LoadU(d, b + j * kLanes);
#pragma GCC unroll 8
      for (int64_t i = 0; i < kM; ++i) {
        const V av = hn::Set(d, a[i * kSlabDepth]);
#pragma GCC unroll 8
        for (int64_t j = 0; j < kN; ++j) sum[i][j] = Words::MulAdd(av, bv[j], sum[i][j]);
      }
    }
    const bool from_zero = args.first && block == 0;
#pragma GCC unroll 8
    for (int64_t i = 0; i < kM; ++i) {
      const V a_scale = hn::Set(d, args.a_scales[block * kStripRows + i]);
#pragma GCC unroll 8
      for (int64_t j = 0; j < kN; ++j) {
        float* const to = args.sums + i * args.sums_pitch + j * kLanes;
        const V scale = hn::Mul(a_scale, hn::LoadU(d, args.b_scales + block * kTileCols + j * kLanes));
        const V before = from_zero ? hn::Zero(d) : hn::LoadU(d, to);
        hn::StoreU(hn::Add(before, hn::Mul(sum[i][j], scale)), d, to);
      }
    }
  }
}

using ScaledFunction = void (*)(const ScaledArgs&);
using ScaledTable = std::array<std::array<ScaledFunction, kVectors>, kRows>;  // [rows - 1][vectors - 1]

template <typename Words>
constexpr ScaledTable MakeScaledTable() {
  ScaledTable table{};
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
    ((table[kIndex / kVectors][kIndex % kVectors] = &ScaledMicroKernel<Words, kIndex / kVectors + 1, kIndex % kVectors + 1>),
     ...);
  }
  (std::make_index_sequence<kRows * kVectors>());
  return table;
}

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();
#endif  // a target with vectors

#endif  // JEVONS_KERNELS_CPU_FP8_GEMM_INL_H_
