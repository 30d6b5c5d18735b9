// Exact sums: FP32 values are rounded once to integers of 64 bits in fixed point, and integers have one sum, whatever the order and
// however it is shared among threads, micro-batches and ranks.
#ifndef JEVONS_KERNELS_OPS_FIXED_POINT_H_
#define JEVONS_KERNELS_OPS_FIXED_POINT_H_

#include <span>
#include <vector>

#include "kernels/ops/context.h"

namespace jevons {

// q = round(x * 2^shift), half to even. A value that is NaN, Inf or beyond +-limit after the multiplication is not added: it raises
// the flag.
struct FixedPoint {
  int shift = 0;        // -64 to 512: neither x * 2^shift nor q * 2^-shift can overflow
  double limit = 0;     // in units of q; at most 2^62
  double unit() const;  // 2^-shift: what one q is worth
};
struct FixedPointSum {
  std::vector<Tensor> values;  // contiguous FP32, each of the sum's size; there may be none: an overwritten sum becomes 0
  Tensor sum;                  // contiguous I64
  WriteMode mode = WriteMode::kAdd;
  int64_t* flag = nullptr;  // where the stream works; becomes 1 (stays otherwise) when a value is refused
};
// sum (=|+=) the values in fixed point, exact: in any order the same bits. No two sums share memory; flags may be shared. Any number
// of sums, of any lengths; a device is given hundreds of them in one launch. A sum that leaves 64 bits wraps: choose the limit
// so that none does.
void AddFixedPoint(const OpContext& ctx, const FixedPoint& format, std::span<const FixedPointSum> sums);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_FIXED_POINT_H_
