// Quantisation by columns, with transposed codes. The unit of work is a panel of 128 x 64 numbers: widened (or dequantised) into
// a buffer that fits L1 while each column's largest magnitude is found, then encoded four rows to a 32-bit word, then written
// column by column, 128 bytes at a stretch. Panels with NaN or infinity go to the scalar reference.
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

constexpr int64_t kPanelCols = 64;  // divides 128, so a panel's row has one scale where its codes come from 1x128 tiles
constexpr int64_t kRowsPerWord = 4;

// Where the quantised panels go; all panels of a call share it.
struct ColumnsOut {
  Tensor codes, scales;  // [C, R] U8, [L(R), C] FP32
  ScaleKind kind;
  bool count;
};

// A panel: rows x cols numbers of the matrix from (row, col) on, widened. The rest is zero.
struct Panel {
  alignas(64) float values[kTileSize][kPanelCols];
  alignas(64) uint32_t amax[kPanelCols];     // magnitudes as bits
  alignas(64) float inverse[kPanelCols];     // 1 / scale
  alignas(64) uint32_t words[kTileSize / kRowsPerWord][kPanelCols];
  int64_t row, col, rows, cols;
};

}  // namespace
}  // namespace jevons::cpu
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// load(r, c, count): the panel's lanes from (r, c) on, zeros beyond `count`.
template <class LoadLanes>
HWY_INLINE void FillPanel(Panel& p, const LoadLanes& load) {
  V32 amax[kPanelCols / kLanes];
  for (V32& lanes : amax) lanes = hn::Zero(U32());
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t j = 0; j < kPanelCols / kLanes; ++j) {
      const int64_t c = j * kLanes, count = std::min(kLanes, std::max<int64_t>(p.cols - c, 0));
      const VF v = load(r, c, count);
      hn::Store(v, F32(), &p.values[r][c]);
      amax[j] = hn::Max(amax[j], MagnitudeBits(v));
    }
  }
  for (int64_t j = 0; j < kPanelCols / kLanes; ++j) hn::Store(amax[j], U32(), p.amax + j * kLanes);
  for (int64_t r = p.rows; r % kRowsPerWord != 0; ++r) std::fill_n(p.values[r], kPanelCols, 0.0f);
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

template <class F, bool kCount>
HWY_INLINE void EncodeWords(Panel& p, QuantStats& stats) {
  for (int64_t r = 0; r < p.rows; r += kRowsPerWord) {
    for (int64_t c = 0; c < kPanelCols; c += kLanes) {
      const VF inverse = hn::Load(F32(), p.inverse + c);
      const auto encode = [&](int64_t row) JEVONS_LANES {
        const VF value = hn::Load(F32(), &p.values[row][c]), scaled = hn::Mul(value, inverse);
        if constexpr (kCount) stats.underflowed += CountLost<F>(value, scaled);
        return hn::And(EncodeLanes<F>(scaled), hn::Set(U32(), 0xFFu));
      };
      const V32 low = hn::Or(encode(r), hn::ShiftLeft<8>(encode(r + 1)));
      const V32 high = hn::Or(hn::ShiftLeft<16>(encode(r + 2)), hn::ShiftLeft<24>(encode(r + 3)));
      hn::Store(hn::Or(low, high), U32(), p.words[r / kRowsPerWord] + c);
    }
  }
}

void WriteColumns(const Panel& p, const Tensor& codes) {
  for (int64_t c = 0; c < p.cols; ++c) {
    uint32_t column[kTileSize / kRowsPerWord];
    for (int64_t i = 0; i < kTileSize / kRowsPerWord; ++i) column[i] = p.words[i][c];
    std::memcpy(codes.row<uint8_t>(p.col + c) + p.row, column, static_cast<size_t>(p.rows));
  }
}

template <class F>
HWY_INLINE void FinishPanel(Panel& p, const ColumnsOut& out, QuantStats& stats) {
  if (*std::max_element(p.amax, p.amax + p.cols) >= kInfinityBits) return EncodeScalar<F>(p, out, stats);
  for (int64_t c = 0; c < kPanelCols; ++c) {
    const float scale = ScaleOf<F>(std::bit_cast<float>(p.amax[c]), out.kind);
    p.inverse[c] = 1.0f / scale;
    if (c < p.cols) out.scales.row<float>(p.row / kTileSize)[p.col + c] = scale;
  }
  out.count ? EncodeWords<F, true>(p, stats) : EncodeWords<F, false>(p, stats);
  stats.elements += p.rows * p.cols;
  WriteColumns(p, out.codes);
}

// Panels in row-major order over the matrix of rows x cols.
template <class F, class LoadLanes>
HWY_INLINE void QuantizePanels(int64_t rows, int64_t cols, Range panels, const ColumnsOut& out, QuantStats& stats,
                               const LoadLanes& load) {
  const int64_t across = (cols + kPanelCols - 1) / kPanelCols;
  Panel p;
  for (int64_t i = panels.begin; i < panels.end; ++i) {
    p.row = i / across * kTileSize, p.col = i % across * kPanelCols;
    p.rows = std::min(kTileSize, rows - p.row), p.cols = std::min(kPanelCols, cols - p.col);
    FillPanel(p, [&](int64_t r, int64_t c, int64_t count)
                     JEVONS_LANES { return load(p.row + r, p.col + c, count); });
    FinishPanel<F>(p, out, stats);
  }
}

template <class F, typename S>
void QuantizeAs(const QuantizeDesc& d, Range panels, QuantStats& stats) {
  const ColumnsOut out{d.codes, d.scales, d.scale_kind, d.stats != nullptr};
  QuantizePanels<F>(d.x.rows(), d.x.cols(), panels, out, stats,
                    [&](int64_t r, int64_t c, int64_t count) JEVONS_LANES { return Load(d.x.row<S>(r) + c, count); });
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
  const ColumnsOut out{d.out_codes, d.out_scales, d.scale_kind, d.stats != nullptr};
  QuantizePanels<F>(d.codes.rows(), d.codes.cols(), panels, out, stats,
                    [&](int64_t r, int64_t c, int64_t count) JEVONS_LANES {
                      const VF scale = hn::Set(F32(), d.scales.row<float>(r)[c / kTileSize]);
                      return hn::Mul(DecodeLanes<F>(LoadCodes(d.codes.row<uint8_t>(r) + c, count)), scale);
                    });
}

void RequantizePanelRange(const RequantizeDesc& d, Range panels, QuantStats& stats) {
  d.format == NumberFormat::kE4M3 ? RequantizeAs<E4M3>(d, panels, stats) : RequantizeAs<E5M2>(d, panels, stats);
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(QuantizePanelRange);
HWY_EXPORT(RequantizePanelRange);

int64_t PanelsOf(int64_t rows, int64_t cols) { return TilesOf(rows) * ((cols + kPanelCols - 1) / kPanelCols); }

}  // namespace

void QuantizeColumns(const OpContext&, const QuantizeDesc& d) {
  const auto run = &HWY_DYNAMIC_DISPATCH(QuantizePanelRange);
  ParallelCounts(PanelsOf(d.x.rows(), d.x.cols()), d.x.size(), d.stats,
                 [&](Range panels, QuantStats& stats) { run(d, panels, stats); });
}

void RequantizeColumns(const OpContext&, const RequantizeDesc& d) {
  const auto run = &HWY_DYNAMIC_DISPATCH(RequantizePanelRange);
  ParallelCounts(PanelsOf(d.codes.rows(), d.codes.cols()), d.codes.size(), d.stats,
                 [&](Range panels, QuantStats& stats) { run(d, panels, stats); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
