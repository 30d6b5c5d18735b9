// Rotary position embedding on the decoupled part of MLA (DeepSeek-V3 report, eq. 4 and 9): adjacent elements
// (x[2i], x[2i+1]) are one complex number, turned by position * theta^(-2i/dim). Optional YaRN (report 4.3).
#ifndef JEVONS_KERNELS_OPS_ROPE_H_
#define JEVONS_KERNELS_OPS_ROPE_H_

#include "kernels/ops/context.h"

namespace jevons {

struct RopeScaling {        // YaRN; factor 1 = off
  double factor = 1.0;      // s
  double beta_fast = 32.0;  // rotations within the original length above which a dim keeps its frequency
  double beta_slow = 1.0;   // rotations below which a dim is interpolated by 1/factor
  int64_t original_length = 4096;
  double magnitude = 1.0;  // cos and sin are multiplied by it
};

// cos and sin: [positions, dim/2] FP32. Frequencies and angles are rounded to FP32 as in DeepSeek's code and in
// transformers, not computed in FP64: published models were trained and are served with these angles, and an FP32 angle
// is off by 1e-4 at position 4,096 and by 1e-2 at 160,000.
void FillRopeTable(double theta, int64_t dim, const RopeScaling& scaling, const Tensor& cos, const Tensor& sin);

struct RopeDesc {
  Tensor x;  // [T, heads * head_dim], turned in place; FP32 or BF16
  int64_t heads = 1;
  int64_t head_dim = 0;         // elements per head
  int64_t offset = 0;           // first element of the rotated part within a head; the part has 2 * cos.cols() elements
  Tensor cos, sin;              // [positions, dim/2]
  int64_t sequence_length = 0;  // row t has position t % sequence_length
};
void Rope(const OpContext& ctx, const RopeDesc& desc);
void RopeBackward(const OpContext& ctx, const RopeDesc& desc);  // its transpose, on gradients

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_ROPE_H_
