// The gate of DeepSeekMoE (DeepSeek-V3 report, eq. 12-16) and the sequence-wise balance loss (eq. 17-20), all in FP32.
//   s = sigmoid(logits); c = s + bias (for selection only); a group scores the sum of its best two values of c (the report has
//   K_r / M, which is 2 for its model; the released code has 2 for every model); c = -inf outside the kept_groups best groups;
//   I = the top_k of c; ties go to the lower index.
//   weight_i = route_scale * s_i / (sum over I of s + 1e-20), or route_scale * s_i without normalisation.
#ifndef JEVONS_KERNELS_OPS_ROUTER_H_
#define JEVONS_KERNELS_OPS_ROUTER_H_

#include "kernels/ops/context.h"

namespace jevons {

struct RouterDesc {
  int64_t experts = 0, top_k = 0, groups = 1, kept_groups = 1;
  float route_scale = 1;
  bool normalize = true;
};

struct RouterForward {
  Tensor logits;   // [T,E] FP32
  Tensor bias;     // [E] FP32
  Tensor scores;   // out [T,E] FP32: s
  Tensor indices;  // out [T,K] I32: the chosen experts, best biased score first
  Tensor weights;  // out [T,K] FP32
  Tensor counts;   // out [E] I64: rows per expert
};
void Router(const OpContext& ctx, const RouterDesc& desc, const RouterForward& forward);

// Balance loss per sequence: L = sum_i f_i P_i, f_i = E/(K T) * #{t : s_it among the top K of s_t} (without bias and
// groups), P_i = mean over t of s_it / sum_j s_jt. T = sequence_length.
// fractions: out [sequences, E] FP32, f_i; losses: out [sequences] FP32.
void BalanceLoss(const OpContext& ctx, const RouterDesc& desc, const Tensor& scores, int64_t sequence_length,
                 const Tensor& fractions, const Tensor& losses);

struct RouterGrad {
  Tensor scores, indices, weights;  // as from Router
  Tensor dweights;                  // [T,K] FP32
  Tensor fractions;                 // [sequences, E], or empty: no balance loss
  float balance_scale = 0;          // d(total loss) / d(balance loss of one sequence)
  int64_t sequence_length = 0;
  Tensor dlogits;  // out [T,E] FP32
};
void RouterBackward(const OpContext& ctx, const RouterDesc& desc, const RouterGrad& grad);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_ROUTER_H_
