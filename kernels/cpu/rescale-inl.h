// From codes with a scale per row to codes with a scale per column, where all scales are powers of two: that moves exponents alone,
// so the numbers stay bytes throughout. Included once per instruction set.
//
// The rank of a code orders magnitudes as the code does, but doubling adds kSteps even below the smallest normal number: ranks of
// different scales differ by a multiple of it. Zero has rank 0. The smallest number has rank kSteps; half of it, a tie that rounds to
// zero, would share zero's.
#include <bit>
#include <cstdlib>
#include <optional>

#include "kernels/cpu/quantize-inl.h"

#if defined(JEVONS_KERNELS_CPU_RESCALE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_RESCALE_INL_H_
#undef JEVONS_KERNELS_CPU_RESCALE_INL_H_
#else
#define JEVONS_KERNELS_CPU_RESCALE_INL_H_
#endif

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {

template <class F>
struct RankTables {
  static constexpr int kBits = F::kMantissaBits, kSteps = 1 << kBits;
  static constexpr int kRaise = kBits << kBits;  // rank - code of normal numbers
  // Of rows whose scales differ: the powers of two between the largest and the smallest that a byte has room for.
  static constexpr int kSpread = (255 - static_cast<int>(F::kMaxCode) - kRaise) >> kBits;
  // Rank 0 of a row with that smallest scale, 2^-kSpread, has this exponent.
  static constexpr int kExponent = 1 - F::kBias - kBits - 1 - kSpread;

  alignas(16) uint8_t raise[16];     // rank - code; the last also of all codes above
  alignas(16) uint8_t not_zero[16];  // which codes these are, as masks
  alignas(16) uint8_t low[16],
      high[16];  // the codes of ranks 0..15, 16..31: from there on it is rank - kRaise
  constexpr RankTables() : raise(), not_zero(), low(), high() {
    for (int code = 1; code < 16; ++code) {
      const int width = std::bit_width(static_cast<unsigned>(code));
      const int subnormal = (width << kBits) + (code << (kBits + 1)) / (1 << width) - kSteps;
      raise[code] = static_cast<uint8_t>(code < kSteps ? subnormal - code : kRaise);
      not_zero[code] = 0xFF;
    }
    for (int rank = 0; rank < 16; ++rank) low[rank] = CodeOf(rank), high[rank] = CodeOf(rank + 16);
  }
  static constexpr uint8_t CodeOf(int rank) {
    const auto steps = static_cast<float>((kSteps + rank % kSteps) << (rank / kSteps));
    return Encode<F>(FormatBits<F>::kSmallest * steps / (2 * kSteps));
  }
};
template <class F>
inline constexpr RankTables<F> kRanks;

// A panel of up to 128 x 128 codes, by rows; what lies beyond its columns is zero.
struct RankPanel {
  alignas(64) uint8_t ranks[kTileSize][kTileSize];  // as in the row with the largest scale, plus kSpread powers of two
  alignas(64) uint8_t codes[kTileSize][kTileSize];  // first those of the rows' scales, then those of the columns'
  // By columns: the largest rank, the same as FP32 bits, the new scale, and what it takes from the ranks.
  alignas(64) uint8_t largest[kTileSize];
  alignas(64) uint32_t amax[kTileSize];
  alignas(64) float scale[kTileSize], inverse[kTileSize];
  alignas(64) uint8_t lower[kTileSize];
};

// Codes and the scales of their rows.
struct RankSource {
  const uint8_t* codes;
  int64_t pitch;
  const float* scales;
  int64_t scale_pitch;
  int64_t rows, cols;
};

// The exponent of the largest scale, if all scales are powers of two which keep every number normal in FP32, and no row that has
// a number but zero lies more than kSpread below; else none.
template <class F>
std::optional<int> TopExponent(const RankSource& s) {
  constexpr int kFar = 64;
  int top = -kFar;
  for (int64_t r = 0; r < s.rows; ++r) {
    const uint32_t bits = std::bit_cast<uint32_t>(s.scales[r * s.scale_pitch]);
    const int exponent = static_cast<int>(bits >> 23) - 127;
    if ((bits & 0x007FFFFFu) != 0 || std::abs(exponent) > kFar) return std::nullopt;
    top = std::max(top, exponent);
  }
  const float least = std::bit_cast<float>(static_cast<uint32_t>(top - RankTables<F>::kSpread + 127) << 23);
  for (int64_t r = 0; r < s.rows; ++r) {
    const uint8_t* row = s.codes + r * s.pitch;
    if (s.scales[r * s.scale_pitch] < least && std::any_of(row, row + s.cols, [](uint8_t code) { return (code & 0x7F) != 0; }))
      return std::nullopt;
  }
  return top;
}

// Copies codes, finds ranks and columns' largest ones. False if there is a NaN or infinity. Calls fetch(r) for every other row.
template <class F, class Fetch>
bool FindRanks(const RankSource& s, int top, RankPanel& p, const Fetch& fetch) {
  constexpr const RankTables<F>& kTables = kRanks<F>;
  constexpr int64_t kVectors = kTileSize / kVectorBytes;
  const D8 d;
  const V8 raise = hn::LoadDup128(d, kTables.raise), not_zero = hn::LoadDup128(d, kTables.not_zero);
  V8 largest[kVectors], last = hn::Zero(d);
  for (V8& v : largest) v = hn::Zero(d);
  uint8_t room[kTileSize];
  for (int64_t r = 0; r < s.rows; ++r) {
    if (r % 2 == 0) fetch(r);
    const uint8_t* row = WholeRow<kTileSize>(s.codes + r * s.pitch, s.cols, room);
    const uint32_t bits = std::bit_cast<uint32_t>(s.scales[r * s.scale_pitch]);
    const int above = kTables.kSpread - (top + 127 - static_cast<int>(bits >> 23));  // negative only if all are zero
    const V8 add = hn::Add(raise, hn::And(hn::Set(d, static_cast<uint8_t>(above << kTables.kBits)), not_zero));
#pragma GCC unroll 8
    for (int64_t j = 0; j < kVectors; ++j) {
      const V8 code = hn::LoadU(d, row + j * kVectorBytes), magnitude = hn::And(code, hn::Set(d, uint8_t{0x7F}));
      const V8 index = hn::Min(magnitude, hn::Set(d, uint8_t{15}));
      const V8 rank = hn::Add(magnitude, hn::TableLookupBytes(add, index));
      largest[j] = hn::Max(largest[j], rank);
      last = hn::Max(last, magnitude);
      hn::Store(rank, d, &p.ranks[r][j * kVectorBytes]);
      hn::Store(code, d, &p.codes[r][j * kVectorBytes]);
    }
  }
  for (int64_t j = 0; j < kVectors; ++j) hn::Store(largest[j], d, p.largest + j * kVectorBytes);
  return hn::AllTrue(d, hn::Eq(hn::Max(last, hn::Set(d, uint8_t{F::kMaxCode})), hn::Set(d, uint8_t{F::kMaxCode})));
}

// Finds the columns' scales. False if one is so small that ranks would have to rise: a column far below its rows.
template <class F>
bool FindColumnScales(int top, RankPanel& p) {
  using T = RankTables<F>;
  const U32 d;
  const hn::RebindToSigned<U32> signed32;
  const hn::Rebind<uint8_t, U32> d8;
  const auto wide = [&](int64_t c) JEVONS_LANES { return hn::PromoteTo(d, hn::LoadU(d8, p.largest + c)); };
  const V32 base = hn::Set(d, static_cast<uint32_t>(T::kExponent + top + 127) << 23);
  for (int64_t c = 0; c < kTileSize; c += kLanes) {
    const V32 bits = hn::Add(hn::ShiftLeft<23 - T::kBits>(wide(c)), base);
    hn::Store(hn::IfThenZeroElse(hn::Eq(wide(c), hn::Zero(d)), bits), d, p.amax + c);
  }
  FindScales<F>(p.amax, kTileSize, ScaleKind::kPowerOfTwo, p.scale, p.inverse);
  auto rising = hn::Zero(signed32);
  for (int64_t c = 0; c < kTileSize; c += kLanes) {
    const auto exponent = hn::BitCast(signed32, hn::ShiftRight<23>(MagnitudeBits(Load(p.scale + c))));
    const auto lower = hn::ShiftLeft<T::kBits>(hn::Add(exponent, hn::Set(signed32, T::kSpread - 127 - top)));
    const auto used = hn::Gt(hn::BitCast(signed32, wide(c)), hn::Zero(signed32));
    rising = hn::Min(rising, hn::IfThenElseZero(used, lower));
    hn::StoreU(hn::DemoteTo(d8, lower), d8, p.lower + c);
  }
  return hn::AllTrue(signed32, hn::Eq(rising, hn::Zero(signed32)));
}

// Replaces the codes of the rows' scales by those of the columns'. Returns how many numbers became zero, if that is asked for.
// Calls fetch(r) for the rows that FindRanks leaves.
template <class F, bool kCount, class Fetch>
int64_t EncodeRanks(int64_t rows, RankPanel& p, const Fetch& fetch) {
  constexpr const RankTables<F>& kTables = kRanks<F>;
  constexpr int64_t kVectors = kTileSize / kVectorBytes;
  const D8 d;
  const V8 low = hn::LoadDup128(d, kTables.low), high = hn::LoadDup128(d, kTables.high), zero = hn::Zero(d);
  V8 lower[kVectors], lost[kVectors];  // of at most 128 rows: a byte can count them
  for (int64_t j = 0; j < kVectors; ++j) lower[j] = hn::Load(d, p.lower + j * kVectorBytes), lost[j] = zero;
  for (int64_t r = 0; r < rows; ++r) {
    if (r % 2 != 0) fetch(r);
#pragma GCC unroll 8
    for (int64_t j = 0; j < kVectors; ++j) {
      uint8_t* codes = &p.codes[r][j * kVectorBytes];
      const V8 old = hn::Load(d, &p.ranks[r][j * kVectorBytes]), rank = hn::SaturatedSub(old, lower[j]);
      // A rank past a table's end finds zero or one of its codes, all of which are smaller than its own.
      const V8 rounded =
          hn::Max(hn::TableLookupBytesOr0(low, rank), hn::TableLookupBytesOr0(high, hn::Sub(rank, hn::Set(d, uint8_t{16}))));
      const V8 code = hn::Max(rounded, hn::SaturatedSub(rank, hn::Set(d, uint8_t{kTables.kRaise})));
      if constexpr (kCount) lost[j] = hn::Sub(lost[j], hn::VecFromMask(d, hn::AndNot(hn::Eq(old, zero), hn::Eq(code, zero))));
      hn::Store(SelectBits(hn::Set(d, uint8_t{0x80}), hn::Load(d, codes), code), d, codes);
    }
  }
  const hn::Repartition<uint64_t, D8> d64;
  auto sum = hn::Zero(d64);
  for (const V8& counts : lost) sum = hn::Add(sum, hn::SumsOf8(counts));
  return static_cast<int64_t>(hn::GetLane(hn::SumOfLanes(d64, sum)));
}

// Codes and scales of the panel's columns. False, with nothing done, where only FP32 numbers can give them.
template <class F, bool kCount, class Fetch>
bool Rescale(const RankSource& s, RankPanel& p, QuantStats& stats, const Fetch& fetch) {
  const std::optional<int> top = TopExponent<F>(s);
  if (!top.has_value() || !FindRanks<F>(s, *top, p, fetch) || !FindColumnScales<F>(*top, p)) return false;
  stats.underflowed += EncodeRanks<F, kCount>(s.rows, p, fetch);
  stats.elements += s.rows * s.cols;
  return true;
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HWY_SCALAR

#endif  // per-target include guard
