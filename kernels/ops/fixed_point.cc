#include "kernels/ops/fixed_point.h"

#include <cmath>

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

double FixedPoint::unit() const { return std::ldexp(1.0, -shift); }

void AddFixedPoint(const OpContext& ctx, const FixedPoint& format, std::span<const FixedPointSum> sums) {
  ExpectFixedPoint(format);
  for (const FixedPointSum& s : sums) {
    ExpectVector("sum", s.sum, DType::kI64, s.sum.size());
    for (const Tensor& value : s.values) ExpectVector("value", value, DType::kF32, s.sum.size());
    JEVONS_CHECK(s.values.empty() || s.flag != nullptr, "no flag to raise");
  }
  if (!sums.empty()) Ops(ctx.stream).add_fixed_point(ctx, format, sums);
}

}  // namespace jevons
