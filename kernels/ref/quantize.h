// Defines kernels/ops/quantize.h: one tile, one scalar at a time. A tile is what one scale serves; where its elements lie and
// where its codes go is the caller's.
#ifndef JEVONS_KERNELS_REF_QUANTIZE_H_
#define JEVONS_KERNELS_REF_QUANTIZE_H_

#include <algorithm>
#include <cmath>

#include "kernels/fp8/scaling.h"

namespace jevons::ref {

// x * inverse as a code of F. Counts into `stats` what got lost; NaN and infinity become NaN.
template <class F>
JEVONS_HOST_DEVICE typename F::Code QuantizeOne(float x, float inverse, QuantStats& stats) {
  ++stats.elements;
  if (!std::isfinite(x)) {
    ++stats.nonfinite;
    return static_cast<typename F::Code>(F::kNan);
  }
  constexpr float kHalfStep = (F::kMax - Decode<F>(static_cast<typename F::Code>(F::kMaxCode - 1))) / 2;
  const float scaled = x * inverse;
  const typename F::Code code = Encode<F>(scaled);
  if (std::fabs(scaled) > F::kMax + kHalfStep) ++stats.saturated;
  if (x != 0 && (code & (F::kSign - 1u)) == 0) ++stats.underflowed;
  return code;
}

// Quantises the rows x cols elements get(r, c), hands each code to put(r, c, code), row by row, and returns the scale.
template <class F, class Get, class Put>
float QuantizeTile(int64_t rows, int64_t cols, ScaleKind kind, QuantStats& stats, const Get& get, const Put& put) {
  float amax = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const float x = get(r, c);
      if (std::isfinite(x)) amax = std::max(amax, std::fabs(x));
    }
  }
  const float scale = ScaleOf<F>(amax, kind), inverse = 1.0f / scale;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) put(r, c, QuantizeOne<F>(get(r, c), inverse, stats));
  return scale;
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_QUANTIZE_H_
