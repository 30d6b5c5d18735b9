// Quantisation by columns, with transposed codes. The unit of work is a panel of 128 x 128 numbers: widened (or dequantised) into
// a buffer while each column's largest magnitude is found, then encoded and transposed in registers, 16 rows to a
// chunk, then written column by column, 128 bytes at a stretch. Panels with NaN or infinity go to the scalar reference.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize_columns.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/quantize-inl.h"
#include "kernels/cpu/quantize_columns.h"
#include "kernels/ref/quantize.h"

#ifndef JEVONS_KERNELS_CPU_QUANTIZE_COLUMNS_ONCE_
#define JEVONS_KERNELS_CPU_QUANTIZE_COLUMNS_ONCE_
namespace jevons::cpu {
namespace {

constexpr int64_t kPanelCols =
    kTileSize;  // so a row of a panel has one scale where its codes come from 1x128 tiles
constexpr int64_t kRowsPerChunk = 16;
// Codes of more bytes would not stay in cache: whole lines of them go past it, which spares reading the lines first.
constexpr int64_t kStreamBytes = int64_t{16} << 20;

struct Chunk {  // 16 rows of a column
  uint32_t words[4];
};

// Where the quantised panels go; all panels of a call share it.
struct ColumnsOut {
  Tensor codes, scales;  // [C, R] U8, [L(R), C] FP32
  ScaleKind kind;
  bool count;
  bool stream = codes.bytes() > kStreamBytes;
};

// A panel: rows x cols numbers of the matrix from (row, col) on, widened. The rest is zero.
struct Panel {
  alignas(64) float values[kTileSize][kPanelCols];
  alignas(64) uint32_t amax[kPanelCols];  // magnitudes as bits
  alignas(64) float scale[kPanelCols], inverse[kPanelCols];
  alignas(64) Chunk chunks[kTileSize / kRowsPerChunk][kPanelCols];
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
// Transposes 4 words x kLanes columns inside each block of four columns: chunk b + j * (kLanes / 4) is column 4 b + j.
HWY_INLINE void StoreChunks(V32 w0, V32 w1, V32 w2, V32 w3, Chunk* chunks) {
  const U32 d;
  const hn::Repartition<uint64_t, U32> d64;
  const auto store = [&](auto low, auto high, int64_t j) JEVONS_LANES {
    uint32_t* to = chunks[j * (kLanes / 4)].words;
    hn::Store(hn::BitCast(d, hn::InterleaveLower(d64, low, high)), d, to);
    hn::Store(hn::BitCast(d, hn::InterleaveUpper(d64, low, high)), d, to + kLanes);
  };
  store(hn::BitCast(d64, hn::InterleaveLower(d, w0, w1)), hn::BitCast(d64, hn::InterleaveLower(d, w2, w3)),
        0);
  store(hn::BitCast(d64, hn::InterleaveUpper(d, w0, w1)), hn::BitCast(d64, hn::InterleaveUpper(d, w2, w3)),
        2);
}
// Where StoreChunks put column c of a panel.
HWY_INLINE int64_t ChunkOf(int64_t c) {
  const int64_t lane = c % kLanes;
  return c - lane + lane / 4 + lane % 4 * (kLanes / 4);
}

// Where the numbers come from: elements, and how 2 * kLanes of them become numbers, one vector after the other.
template <typename S>
struct Numbers {
  using Element = S;
  const S* data;
  int64_t pitch;
  HWY_INLINE VF Scale(int64_t, int64_t) const { return hn::Zero(F32()); }
  static HWY_INLINE Two Get(const S* p, int64_t i, VF) { return {Load(p + i), Load(p + i + kLanes)}; }
};
template <class F>
struct ScaledCodes {  // 1x128 tiles; a row of a panel lies in one of them
  using Element = uint8_t;
  const uint8_t* data;
  int64_t pitch;
  const float* scales;
  int64_t scale_pitch;
  HWY_INLINE VF Scale(int64_t r, int64_t c) const {
    return hn::Set(F32(), scales[r * scale_pitch + c / kTileSize]);
  }
  static HWY_INLINE Two Get(const uint8_t* p, int64_t i, VF scale) { return DecodeTwo<F>(p, i, scale); }
};

template <class Source>
HWY_INLINE void FillPanel(Panel& p, const Source& source, const ColumnsOut& out) {
  constexpr int64_t kVectors = kPanelCols / kLanes;
  typename Source::Element room[kPanelCols];
  V32 amax[kVectors];
  for (V32& lanes : amax) lanes = hn::Zero(U32());
  for (int64_t r = 0; r < p.rows; ++r) {
    const auto* from = source.data + (p.row + r) * source.pitch + p.col;
    if (r < p.cols && !out.stream)  // to be written soon
      PrefetchRow(out.codes.row<uint8_t>(p.col + r) + p.row, kTileSize);
    const auto* row = WholeRow<kPanelCols>(from, p.cols, room);
    const VF scale = source.Scale(p.row + r, p.col);
#pragma GCC unroll 8
    for (int64_t j = 0; j < kVectors; j += 2) {
      const Two x = Source::Get(row, j * kLanes, scale);
      hn::Store(x.a, F32(), &p.values[r][j * kLanes]);
      hn::Store(x.b, F32(), &p.values[r][(j + 1) * kLanes]);
      amax[j] = hn::Max(amax[j], MagnitudeBits(x.a));
      amax[j + 1] = hn::Max(amax[j + 1], MagnitudeBits(x.b));
    }
  }
  for (int64_t j = 0; j < kVectors; ++j) hn::Store(amax[j], U32(), p.amax + j * kLanes);
  for (int64_t r = p.rows; r % kRowsPerChunk != 0; ++r) std::fill_n(p.values[r], kPanelCols, 0.0f);
}

template <class F>
void EncodeScalar(const Panel& p, const ColumnsOut& out, QuantStats& stats) {
  for (int64_t c = 0; c < p.cols; ++c) {
    uint8_t* codes = out.codes.row<uint8_t>(p.col + c) + p.row;
    out.scales.row<float>(p.row / kTileSize)[p.col + c] = ref::QuantizeTile<F>(
        p.rows, 1, out.kind, stats, [&](int64_t r, int64_t) { return p.values[r][c]; },
        [&](int64_t r, int64_t, uint8_t code) { codes[r] = code; });
  }
}

// Fills p.chunks with the codes: chunk (i, c) holds rows 16 i .. 16 i + 15 of column c, four to a word. Returns how many numbers
// became zero, if that is asked for. Calls fetch(r) for each row of a panel: memory works while the numbers come from cache.
template <class F, bool kCount, class Fetch>
int64_t EncodePanel(Panel& p, const Fetch& fetch) {
  V32 lost = hn::Zero(U32());
  for (int64_t i = 0; i * kRowsPerChunk < p.rows; ++i) {
    for (int64_t c = 0; c < kPanelCols; c += kLanes) {
      for (int64_t r = 0; r < kLanes / 8; ++r) fetch(i * kRowsPerChunk + c / 8 + r);
      const VF inverse = hn::Load(F32(), p.inverse + c);
      const auto code = [&](int64_t r) JEVONS_LANES {
        const VF value = hn::Load(F32(), &p.values[i * kRowsPerChunk + r][c]);
        const VF scaled = hn::Mul(value, inverse);
        if constexpr (kCount) CountLost<F>(value, scaled, lost);
        return EncodeLanes<F>(scaled);
      };
      const auto word = [&](int64_t r) JEVONS_LANES {
        const V32 byte = hn::Set(U32(), 0xFFu), half = hn::Set(U32(), 0xFFFFu);
        const V32 low = SelectBits(byte, code(r), hn::ShiftLeft<8>(code(r + 1)));
        const V32 high = SelectBits(byte, code(r + 2), hn::ShiftLeft<8>(code(r + 3)));
        return SelectBits(half, low, hn::ShiftLeft<16>(high));
      };
      StoreChunks(word(0), word(4), word(8), word(12), p.chunks[i] + c);
    }
  }
  return hn::GetLane(hn::SumOfLanes(U32(), lost));
}

void WriteColumns(const Panel& p, const ColumnsOut& out) {
  const hn::CappedTag<uint8_t, kRowsPerChunk> d;
  const int64_t whole = p.rows / kRowsPerChunk, rest = p.rows % kRowsPerChunk;
  for (int64_t c = 0; c < p.cols; ++c) {
    uint8_t* to = out.codes.row<uint8_t>(p.col + c) + p.row;
    const Chunk* from = &p.chunks[0][ChunkOf(c)];
    if (out.stream && p.rows == kTileSize && reinterpret_cast<uintptr_t>(to) % 64 == 0) {
      for (int64_t i = 0; i < kTileSize / kRowsPerChunk; ++i, from += kPanelCols, to += kRowsPerChunk)
        hn::Stream(hn::Load(d, reinterpret_cast<const uint8_t*>(from)), d, to);
      continue;
    }
    for (int64_t i = 0; i < whole; ++i)
      std::memcpy(to + i * kRowsPerChunk, from + i * kPanelCols, sizeof(Chunk));
    if (rest != 0)
      std::memcpy(to + whole * kRowsPerChunk, from + whole * kPanelCols, static_cast<size_t>(rest));
  }
}

template <class F, class Fetch>
void FinishPanel(Panel& p, const ColumnsOut& out, QuantStats& stats, const Fetch& fetch) {
  if (*std::max_element(p.amax, p.amax + p.cols) >= kInfinityBits) return EncodeScalar<F>(p, out, stats);
  FindScales<F>(p.amax, kPanelCols, out.kind, p.scale, p.inverse);
  std::copy_n(p.scale, p.cols, out.scales.row<float>(p.row / kTileSize) + p.col);
  stats.underflowed += out.count ? EncodePanel<F, true>(p, fetch) : EncodePanel<F, false>(p, fetch);
  stats.elements += p.rows * p.cols;
  WriteColumns(p, out);
}

// Panels in row-major order over the matrix of rows x cols.
template <class F, class Source>
HWY_INLINE void QuantizePanels(int64_t rows, int64_t cols, Range panels, const ColumnsOut& out,
                               QuantStats& stats, const Source& source) {
  const int64_t across = (cols + kPanelCols - 1) / kPanelCols;
  Panel p;
  for (int64_t i = panels.begin; i < panels.end; ++i) {
    p.row = i / across * kTileSize, p.col = i % across * kPanelCols;
    p.rows = std::min(kTileSize, rows - p.row), p.cols = std::min(kPanelCols, cols - p.col);
    FillPanel(p, source, out);
    const auto* next = source.data + p.row * source.pitch + p.col + kPanelCols;
    if (p.col + kPanelCols >= cols) next = source.data + (p.row + kTileSize) * source.pitch;
    FinishPanel<F>(p, out, stats,
                   [&](int64_t r) JEVONS_LANES { PrefetchRow(next + r * source.pitch, kPanelCols); });
  }
  if (out.stream) hwy::FlushStream();
}

template <class F, typename S>
void QuantizeAs(const QuantizeDesc& d, Range panels, QuantStats& stats) {
  QuantizePanels<F>(d.x.rows(), d.x.cols(), panels,
                    {.codes = d.codes, .scales = d.scales, .kind = d.scale_kind, .count = d.stats != nullptr},
                    stats, Numbers<S>{d.x.as<S>(), d.x.pitch});
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
  QuantizePanels<F>(
      d.codes.rows(), d.codes.cols(), panels,
      {.codes = d.out_codes, .scales = d.out_scales, .kind = d.scale_kind, .count = d.stats != nullptr},
      stats, ScaledCodes<F>{d.codes.as<uint8_t>(), d.codes.pitch, d.scales.as<float>(), d.scales.pitch});
}

void RequantizePanelRange(const RequantizeDesc& d, Range panels, QuantStats& stats) {
  d.format == NumberFormat::kE4M3 ? RequantizeAs<E4M3>(d, panels, stats)
                                  : RequantizeAs<E5M2>(d, panels, stats);
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

int64_t PanelsOf(int64_t rows, int64_t cols) {
  return TilesOf(rows) * ((cols + kPanelCols - 1) / kPanelCols);
}

}  // namespace

void QuantizeColumns(const QuantizeDesc& d) {
  const auto run = &HWY_DYNAMIC_DISPATCH(QuantizePanelRange);
  ParallelCounts(PanelsOf(d.x.rows(), d.x.cols()), d.x.size(), d.stats,
                 [&](Range panels, QuantStats& stats) { run(d, panels, stats); });
}

void RequantizeColumns(const RequantizeDesc& d) {
  const auto run = &HWY_DYNAMIC_DISPATCH(RequantizePanelRange);
  ParallelCounts(PanelsOf(d.codes.rows(), d.codes.cols()), d.codes.size(), d.stats,
                 [&](Range panels, QuantStats& stats) { run(d, panels, stats); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
