// Defines kernels/ops/fixed_point.h.
#ifndef JEVONS_KERNELS_REF_FIXED_POINT_H_
#define JEVONS_KERNELS_REF_FIXED_POINT_H_

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// q = round(x * scale), half to even; false, and q = 0, where that is no number within +-limit.
JEVONS_HOST_DEVICE inline bool ToFixedPoint(float x, double scale, double limit, int64_t& q) {
  using std::abs;
  using std::llrint;
  const double v = double{x} * scale;
  const bool within = abs(v) <= limit;  // NaN is not
  q = within ? llrint(v) : 0;
  return within;
}

JEVONS_HOST_DEVICE inline float FromFixedPoint(int64_t q, double unit) {
  return static_cast<float>(static_cast<double>(q) * unit);
}

// a + b, which may wrap.
JEVONS_HOST_DEVICE inline int64_t AddWrapping(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_FIXED_POINT_H_
