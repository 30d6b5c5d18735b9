// Element by element: any pitch; the types that are named.
#ifndef JEVONS_KERNELS_OPS_ELEMENTWISE_H_
#define JEVONS_KERNELS_OPS_ELEMENTWISE_H_

#include <span>

#include "kernels/ops/context.h"

namespace jevons {

void Copy(const OpContext& ctx, const Tensor& src, const Tensor& dst);                // FP32 <-> BF16 casts too; I32 to I32
void Add(const OpContext& ctx, const Tensor& a, const Tensor& b, const Tensor& out);  // FP32 or BF16; out may be a or b

// Bytes from place to place where the stream works; no part is written where another reads or writes. A device is given hundreds
// of parts in one launch.
struct CopiedPart {
  const void* from;
  void* to;
  int64_t bytes;
};
void CopyParts(const OpContext& ctx, std::span<const CopiedPart> parts);

// Draws from N(0, std^2) for elements [offset, offset + dst.size()) of the stream (seed, purpose); dst: contiguous FP32.
void FillNormal(const OpContext& ctx, uint64_t seed, uint64_t purpose, int64_t offset, float std, const Tensor& dst);
void Fill(const OpContext& ctx, float value, const Tensor& dst);  // FP32

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_ELEMENTWISE_H_
