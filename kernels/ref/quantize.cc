// The scalar reference: walks the tiles of a matrix, one thread, one element at a time.
#include "kernels/ref/quantize.h"

#include "kernels/ref/element.h"
#include "kernels/ref/ref_ops.h"

namespace jevons::ref {
namespace {

// body(format) with the traits of `format`.
template <class Body>
void ForFormat(NumberFormat format, const Body& body) {
  switch (format) {
    case NumberFormat::kE4M3: return body(E4M3());
    case NumberFormat::kE5M2: return body(E5M2());
    case NumberFormat::kE5M6: return body(E5M6());
  }
}

// A code of a matrix in memory.
template <class F>
typename F::Code GetCode(const Tensor& codes, int64_t r, int64_t c) {
  if constexpr (sizeof(typename F::Code) == 1) {
    return codes.row<uint8_t>(r)[c];
  } else {
    uint16_t group[8];
    UnpackE5M6(codes.row<uint8_t>(r) + c / 8 * 12, group);
    return group[c % 8];
  }
}
template <class F>
void PutCode(const Tensor& codes, int64_t r, int64_t c, typename F::Code code) {
  if constexpr (sizeof(typename F::Code) == 1) {
    codes.row<uint8_t>(r)[c] = code;
  } else {
    uint8_t* bytes = codes.row<uint8_t>(r) + c / 8 * 12;
    uint16_t group[8] = {};
    if (c % 8 > 0) UnpackE5M6(bytes, group);  // a row is written from left to right
    group[c % 8] = code;
    PackE5M6(group, bytes);
  }
}

// Quantises get(r, c), a matrix of rows x cols. put(r, c, code) stores a code and put_scale(i, j, scale) the scale of tile i, j.
template <class F, class Get, class Put, class PutScale>
QuantStats QuantizeMatrix(int64_t rows, int64_t cols, Tiling tiling, ScaleKind kind, const Get& get, const Put& put,
                          const PutScale& put_scale) {
  QuantStats stats;
  const int64_t height = tiling == Tiling::kRows1x128 ? 1 : kTileSize, width = tiling == Tiling::kColumns128x1 ? 1 : kTileSize;
  for (int64_t r0 = 0; r0 < rows; r0 += height) {
    for (int64_t c0 = 0; c0 < cols; c0 += width) {
      const float scale = QuantizeTile<F>(
          std::min(height, rows - r0), std::min(width, cols - c0), kind, stats,
          [&](int64_t r, int64_t c) { return get(r0 + r, c0 + c); },
          [&](int64_t r, int64_t c, typename F::Code code) { put(r0 + r, c0 + c, code); });
      put_scale(r0 / height, c0 / width, scale);
    }
  }
  return stats;
}

void RequantizeMatrix(const RequantizeDesc& d) {
  ForFormat(d.format, [&](auto format) {
    using F = decltype(format);
    const QuantStats stats = QuantizeMatrix<F>(
        d.codes.rows(), d.codes.cols(), Tiling::kColumns128x1, d.scale_kind,
        [&](int64_t r, int64_t c) { return Decode<F>(GetCode<F>(d.codes, r, c)) * d.scales.row<float>(r)[c / kTileSize]; },
        [&](int64_t r, int64_t c, typename F::Code code) { PutCode<F>(d.out_codes, c, r, code); },
        [&](int64_t i, int64_t j, float scale) { d.out_scales.row<float>(i)[j] = scale; });
    if (d.stats != nullptr) *d.stats += stats;
  });
}

}  // namespace

void Quantize(const OpContext&, const QuantizeDesc& d) {
  ForFormat(d.format, [&](auto format) {
    using F = decltype(format);
    const bool transposed = d.tiling == Tiling::kColumns128x1;
    const QuantStats stats = QuantizeMatrix<F>(
        d.x.rows(), d.x.cols(), d.tiling, d.scale_kind, [&](int64_t r, int64_t c) { return Get(d.x, r, c); },
        [&](int64_t r, int64_t c, typename F::Code code) { PutCode<F>(d.codes, transposed ? c : r, transposed ? r : c, code); },
        [&](int64_t i, int64_t j, float scale) { d.scales.row<float>(i)[j] = scale; });
    if (d.stats != nullptr) *d.stats += stats;
  });
}

void Dequantize(const OpContext&, const DequantizeDesc& d) {
  const int64_t height = d.tiling == Tiling::kRows1x128 ? 1 : kTileSize;
  ForFormat(d.format, [&](auto format) {
    using F = decltype(format);
    for (int64_t r = 0; r < d.x.rows(); ++r)
      for (int64_t c = 0; c < d.x.cols(); ++c)
        Put(d.x, r, c, Decode<F>(GetCode<F>(d.codes, r, c)) * d.scales.row<float>(r / height)[c / kTileSize]);
  });
}

void RequantizeTransposed(const OpContext&, std::span<const RequantizeDesc> descs) {
  for (const RequantizeDesc& d : descs) RequantizeMatrix(d);
}

}  // namespace jevons::ref
