// Quantisation by columns, with transposed codes. The unit of work is a panel of 128 x 128 numbers: copied (or dequantised) into a
// buffer while each column's largest magnitude is found, then encoded by rows, then transposed in registers, a cache line of a
// column at a time. Panels with NaN or infinity go to the scalar reference. Requantised codes whose scales are powers of two are
// not dequantised (rescale-inl.h), unless magnitudes in a panel differ by thousands.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize_columns.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "kernels/cpu/quantize_columns.h"
#include "kernels/cpu/rescale-inl.h"
#include "kernels/cpu/transpose-inl.h"
#include "kernels/ref/quantize.h"

#ifndef JEVONS_KERNELS_CPU_QUANTIZE_COLUMNS_ONCE_
#define JEVONS_KERNELS_CPU_QUANTIZE_COLUMNS_ONCE_
namespace jevons::cpu {
namespace {

// Codes of more bytes would not stay in cache: whole lines of them go past it, which spares reading the lines first.
constexpr int64_t kStreamBytes = int64_t{16} << 20;

// Of the next panel's rows, one in so many is fetched while a panel is filled, the others while it is encoded, which takes longer:
// memory has work throughout.
constexpr int64_t kFetchInFill = 4;

// Where the quantised panels go; all panels of a call share it.
struct ColumnsOut {
  Tensor codes, scales;  // [C, R] U8, [L(R), C] FP32
  ScaleKind kind;
  bool count;
  bool stream = codes.bytes() > kStreamBytes;
};

// rows x cols numbers of the matrix from (row, col) on, at most 128 x 128.
struct Place {
  int64_t row, col, rows, cols;
};

}  // namespace
}  // namespace jevons::cpu
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR
void QuantizePanelRange(const QuantizeDesc&, Range, QuantStats&) {}
void RequantizePanelRange(const RequantizeDesc&, Range, QuantStats&) {}
#else
// The elements of a panel. What lies beyond its columns is zero.
template <typename S>
struct Panel {
  alignas(64) S values[kTileSize][kTileSize];
  // By columns, in the order of PlaceInTwo: the largest magnitudes as FP32 bits, and the scales these give.
  alignas(64) uint32_t amax[kTileSize];
  alignas(64) float scale[kTileSize], inverse[kTileSize];
  alignas(64) uint8_t codes[kTileSize][kTileSize];
};

// Where the numbers come from. Take(row, scale, i, ...) copies two vectors of numbers, from number i of a row on, and raises the
// maxima of their columns to their magnitudes.
template <typename S>
struct Numbers {
  using Element = S;
  static constexpr bool kSigned = true;
  const S* data;
  int64_t pitch;
  const S* At(const Place& p) const { return data + p.row * pitch + p.col; }
  float Value(const Place& p, int64_t r, int64_t c) const { return static_cast<float>(At(p)[r * pitch + c]); }
  HWY_INLINE VF Scale(const Place&, int64_t, const S*) const { return hn::Zero(F32()); }
  static HWY_INLINE void Take(const S* row, VF, int64_t i, S* to, Maxima<S>& a, Maxima<S>& b) {
    const auto x = LoadElements(row + i), y = LoadElements(row + i + kElements<S>);
    a = hn::Max(a, WithoutSign(x)), b = hn::Max(b, WithoutSign(y));
    StoreElements(x, to + i), StoreElements(y, to + i + kElements<S>);
  }
};

// Codes in 1x128 tiles; a row of a panel lies in one of them. Their magnitudes alone become numbers.
template <class F>
struct ScaledCodes {
  using Element = float;
  static constexpr bool kSigned = false;
  const uint8_t* data;
  int64_t pitch;
  const float* scales;
  int64_t scale_pitch;
  const uint8_t* At(const Place& p) const { return data + p.row * pitch + p.col; }
  const float* ScaleAt(const Place& p) const { return scales + p.row * scale_pitch + p.col / kTileSize; }
  float Value(const Place& p, int64_t r, int64_t c) const {
    return Decode<F>(At(p)[r * pitch + c]) * ScaleAt(p)[r * scale_pitch];
  }
  // What FP16 numbers take; infinity, which leaves the panel to the scalar reference, for a NaN of E4M3, where FP16 has a number,
  // and scales that are odd or beyond any amax's.
  HWY_INLINE VF Scale(const Place& p, int64_t r, const uint8_t* row) const {
    const D8 d;
    const float scale = ScaleAt(p)[r * scale_pitch];
    bool odd = !(scale >= 0 && scale < 0x1p119f);
    for (int64_t i = 0; !F::kIeee && i < kTileSize; i += kVectorBytes) {
      const V8 magnitudes = hn::And(hn::LoadU(d, row + i), hn::Set(d, uint8_t{0x7F}));
      odd |= !hn::AllFalse(d, hn::Eq(magnitudes, hn::Set(d, uint8_t{F::kNan})));
    }
    return hn::Set(F32(), odd ? std::numeric_limits<float>::infinity() : scale * kHalfFactor<F>);
  }
  static HWY_INLINE void Take(const uint8_t* row, VF scale, int64_t i, float* to, V32& a, V32& b) {
    const D16 d;
    const hn::Rebind<hwy::float16_t, F32> half;
    const V16 codes = hn::PromoteTo(d, hn::LoadU(hn::Half<D8>(), row + i));
    const V16 magnitudes =
        hn::And(hn::ShiftLeft < F::kIeee ? 8 : 7 > (codes), hn::Set(d, static_cast<uint16_t>(F::kIeee ? 0x7F00 : 0x3F80)));
    const auto value = [&](auto bits) JEVONS_LANES { return hn::Mul(hn::PromoteTo(F32(), hn::BitCast(half, bits)), scale); };
    const Two x{value(hn::LowerHalf(U16(), magnitudes)), value(hn::UpperHalf(U16(), magnitudes))};
    a = hn::Max(a, hn::BitCast(U32(), x.a)), b = hn::Max(b, hn::BitCast(U32(), x.b));
    StoreTwo(x, to + i);
  }
};

// The lines of the output that a panel fills, fetched ahead unless it goes past the caches; row r of the panel brings column r's.
HWY_INLINE void PrefetchColumn(const Place& p, int64_t r, const ColumnsOut& out) {
  if (r < p.cols && !out.stream) PrefetchRow(out.codes.row<uint8_t>(p.col + r) + p.row, kTileSize);
}

// Four vectors of columns at a time: their maxima stay in registers. Calls fetch(r) for some rows.
template <class Source, typename S, class Fetch>
HWY_INLINE void FillPanel(const Place& place, const Source& source, const ColumnsOut& out, Panel<S>& p, const Fetch& fetch) {
  constexpr int64_t kStep = kElements<S>;
  std::remove_const_t<std::remove_pointer_t<decltype(source.data)> > room[kTileSize];
  for (int64_t i = 0; i < kTileSize; i += 4 * kStep) {
    Maxima<S> m0 = hn::Zero(hn::DFromV<Maxima<S> >()), m1 = m0, m2 = m0, m3 = m0;
    for (int64_t r = 0; r < place.rows; ++r) {
      if (i == 0) PrefetchColumn(place, r, out);
      if (i == 0 && r % kFetchInFill == 0) fetch(r);
      const auto* row = WholeRow<kTileSize>(source.At(place) + r * source.pitch, place.cols, room);
      const VF scale = source.Scale(place, r, row);
      source.Take(row, scale, i, p.values[r], m0, m1);
      source.Take(row, scale, i + 2 * kStep, p.values[r], m2, m3);
    }
    StoreWords(m0, p.amax + i), StoreWords(m1, p.amax + i + kStep);
    StoreWords(m2, p.amax + i + 2 * kStep), StoreWords(m3, p.amax + i + 3 * kStep);
  }
}

template <class F, class Source>
void EncodeScalar(const Place& place, const Source& source, const ColumnsOut& out, QuantStats& stats) {
  for (int64_t c = 0; c < place.cols; ++c) {
    uint8_t* codes = out.codes.row<uint8_t>(place.col + c) + place.row;
    out.scales.row<float>(place.row / kTileSize)[place.col + c] = ref::QuantizeTile<F>(
        place.rows, 1, out.kind, stats, [&](int64_t r, int64_t) { return source.Value(place, r, c); },
        [&](int64_t r, int64_t, uint8_t code) { codes[r] = code; });
  }
}

HWY_INLINE void CopySigns(const uint8_t* from, int64_t n, uint8_t* codes) {
  uint8_t room[kTileSize];
  const uint8_t* row = WholeRow<kTileSize>(from, n, room);
  for (int64_t i = 0; i < kTileSize; i += kVectorBytes) {
    const V8 code = hn::Load(D8(), codes + i);
    hn::Store(SelectBits(hn::Set(D8(), uint8_t{0x80}), hn::LoadU(D8(), row + i), code), D8(), codes + i);
  }
}

// Fills p.codes. Returns how many numbers became zero, if that is asked for. Calls fetch(r) for the rows that FillPanel leaves.
template <class F, bool kCount, class Source, typename S, class Fetch>
int64_t EncodePanel(const Place& place, const Source& source, Panel<S>& p, const Fetch& fetch) {
  V32 lost = hn::Zero(U32());
  const auto inverse = [&](int64_t i) JEVONS_LANES { return Two{Load(p.inverse + i), Load(p.inverse + i + kLanes)}; };
  for (int64_t r = 0; r < place.rows; ++r) {
    if (r % kFetchInFill != 0) fetch(r);
    EncodeRow<F, kCount, Source::kSigned>(p.values[r], inverse, p.codes[r], lost);
    if constexpr (!Source::kSigned) CopySigns(source.At(place) + r * source.pitch, place.cols, p.codes[r]);
  }
  return hn::GetLane(hn::SumOfLanes(U32(), lost));
}

void WriteColumns(const Place& place, const uint8_t (&codes)[kTileSize][kTileSize], const ColumnsOut& out) {
  uint8_t* const begin = out.codes.row<uint8_t>(place.col) + place.row;
  const int64_t pitch = out.codes.pitch;
  const bool stream = out.stream && reinterpret_cast<uintptr_t>(begin) % kLine == 0 && pitch % kLine == 0;
  for (int64_t c = 0; c < place.cols; c += 16) {
    for (int64_t r = 0; r < place.rows; r += kLine) {
      Columns columns;
      LoadLines(&codes[r][c], columns);
      uint8_t* to = begin + c * pitch + r;
      const int64_t n = std::min<int64_t>(16, place.cols - c), rows = place.rows - r;
      if (HWY_UNLIKELY(rows < kLine)) {
        alignas(kLine) uint8_t part[16 * kLine];
        StoreLines<false>(columns, part, kLine, 16);
        for (int64_t j = 0; j < n; ++j) std::copy_n(part + j * kLine, rows, to + j * pitch);
      } else if (stream) {
        StoreLines<true>(columns, to, pitch, n);
      } else {
        StoreLines<false>(columns, to, pitch, n);
      }
    }
  }
}

template <class F, class Source, class Fetch>
void QuantizePanel(const Place& place, const Source& source, const ColumnsOut& out, Panel<typename Source::Element>& p,
                   QuantStats& stats, const Fetch& fetch) {
  FillPanel(place, source, out, p, fetch);
  if (*std::max_element(p.amax, p.amax + kTileSize) >= kInfinityBits) return EncodeScalar<F>(place, source, out, stats);
  FindScales<F>(p.amax, kTileSize, out.kind, p.scale, p.inverse);
  float* scales = out.scales.row<float>(place.row / kTileSize) + place.col;
  for (int64_t c = 0; c < place.cols; ++c) scales[c] = p.scale[PlaceInTwo<typename Source::Element>(c)];
  stats.underflowed += out.count ? EncodePanel<F, true>(place, source, p, fetch) : EncodePanel<F, false>(place, source, p, fetch);
  stats.elements += place.rows * place.cols;
  WriteColumns(place, p.codes, out);
}

// Whether it could be done: see Rescale.
template <class F, class Fetch>
bool RescalePanel(const Place& place, const ScaledCodes<F>& source, const ColumnsOut& out, RankPanel& p, QuantStats& stats,
                  const Fetch& fetch) {
  const RankSource from{source.At(place), source.pitch, source.ScaleAt(place), source.scale_pitch, place.rows, place.cols};
  const auto fetch_both = [&](int64_t r) JEVONS_LANES {
    fetch(r);
    PrefetchColumn(place, r, out);
  };
  if (!(out.count ? Rescale<F, true>(from, p, stats, fetch_both) : Rescale<F, false>(from, p, stats, fetch_both))) return false;
  std::copy_n(p.scale, place.cols, out.scales.row<float>(place.row / kTileSize) + place.col);
  WriteColumns(place, p.codes, out);
  return true;
}

// body(place, fetch) for panels in row-major order over the matrix of rows x cols; fetch(r) fetches row r of the next one.
template <class Source, class Body>
HWY_INLINE void ForPanels(int64_t rows, int64_t cols, Range panels, const Source& source, const Body& body) {
  const int64_t across = TilesOf(cols);
  const auto place = [&](int64_t i) {
    const int64_t row = i / across * kTileSize, col = i % across * kTileSize;
    return Place{row, col, std::min(kTileSize, rows - row), std::min(kTileSize, cols - col)};
  };
  for (int64_t i = panels.begin; i < panels.end; ++i) {
    const Place next = place(std::min(i + 1, panels.end - 1));
    body(place(i), [&, from = source.At(next)](int64_t r) JEVONS_LANES {
      if (r < next.rows) PrefetchRow(from + r * source.pitch, next.cols);
    });
  }
}

template <class F, typename S>
void QuantizeAs(const QuantizeDesc& d, Range panels, QuantStats& stats) {
  const Numbers<S> source{d.x.as<S>(), d.x.pitch};
  const ColumnsOut out{.codes = d.codes, .scales = d.scales, .kind = d.scale_kind, .count = d.stats != nullptr};
  Panel<S> p{};
  ForPanels(d.x.rows(), d.x.cols(), panels, source,
            [&](const Place& place, const auto& fetch) { QuantizePanel<F>(place, source, out, p, stats, fetch); });
  if (out.stream) hwy::FlushStream();
}

void QuantizePanelRange(const QuantizeDesc& d, Range panels, QuantStats& stats) {
  const bool half = d.x.dtype == DType::kBF16;
  if (d.format == NumberFormat::kE4M3) {
    half ? QuantizeAs<E4M3, bf16>(d, panels, stats) : QuantizeAs<E4M3, float>(d, panels, stats);
  } else {
    half ? QuantizeAs<E5M2, bf16>(d, panels, stats) : QuantizeAs<E5M2, float>(d, panels, stats);
  }
}

template <class F>
void RequantizeAs(const RequantizeDesc& d, Range panels, QuantStats& stats) {
  const ScaledCodes<F> source{d.codes.as<uint8_t>(), d.codes.pitch, d.scales.as<float>(), d.scales.pitch};
  const ColumnsOut out{.codes = d.out_codes, .scales = d.out_scales, .kind = d.scale_kind, .count = d.stats != nullptr};
  Panel<float> p{};
  RankPanel ranks{};
  ForPanels(d.codes.rows(), d.codes.cols(), panels, source, [&](const Place& place, const auto& fetch) {
    if (out.kind == ScaleKind::kPowerOfTwo && RescalePanel<F>(place, source, out, ranks, stats, fetch)) return;
    QuantizePanel<F>(place, source, out, p, stats, fetch);
  });
  if (out.stream) hwy::FlushStream();
}

void RequantizePanelRange(const RequantizeDesc& d, Range panels, QuantStats& stats) {
  d.format == NumberFormat::kE4M3 ? RequantizeAs<E4M3>(d, panels, stats) : RequantizeAs<E5M2>(d, panels, stats);
}

#endif  // HWY_SCALAR

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(QuantizePanelRange);
HWY_EXPORT(RequantizePanelRange);

int64_t PanelsOf(int64_t rows, int64_t cols) { return TilesOf(rows) * TilesOf(cols); }

}  // namespace

void QuantizeColumns(const QuantizeDesc& d) {
  const auto run = &HWY_DYNAMIC_DISPATCH(QuantizePanelRange);
  ParallelCounts(PanelsOf(d.x.rows(), d.x.cols()), d.x.size(), d.stats,
                 [&](Range panels, QuantStats& stats) { run(d, panels, stats); });
}

void RequantizeColumns(std::span<const RequantizeDesc> descs) {
  const auto run = &HWY_DYNAMIC_DISPATCH(RequantizePanelRange);
  for (const RequantizeDesc& d : descs)
    ParallelCounts(PanelsOf(d.codes.rows(), d.codes.cols()), d.codes.size(), d.stats,
                   [&](Range panels, QuantStats& stats) { run(d, panels, stats); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
