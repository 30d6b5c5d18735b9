// The constants of the cost model that belong to no one cluster: all of them, with their sources. What depends on the GPU
// or the network stands in the cluster's file.
#ifndef JEVONS_TRAINER_PLAN_CONSTANTS_H_
#define JEVONS_TRAINER_PLAN_CONSTANTS_H_

#include <span>

namespace jevons {

struct Constants {
  double hbm_share = 0.9;              // of the data sheet's bandwidth that a streaming kernel reaches
  double elementwise_share = 0.56;     // the same for norms, copies, permutation, SwiGLU
  double cast_share = 0.34;            // the same for quantisation and transposition to FP8
  double fp8_wgrad_share = 0.64;       // rate of FP8 weight gradients, relative to forward
  double attention_half_length = 700;  // tokens at which causal attention reaches half its rate
  double nvlink_share = 0.66;          // of the data sheet that dispatch and combine reach
  double network_share = 0.88;
  double plain_share = 0.72;       // of the network under a plain all-to-all: every copy of a row travels, no forwarding
  double overlap_slowdown = 1.06;  // of kernels beside communication, beyond the SMs they lend
  double tensor_exposed = 0.25;    // of tensor-parallel communication that does not hide behind products
  double expert_imbalance = 1.10;  // rows of the fullest rank of an expert-parallel group, relative to the mean
  double unevenness = 0.055;       // a micro-batch takes so much longer than its kernels (host gaps, fabric noise), and the
                                   // slowest pipeline, for which all wait, so much longer again
};

struct ConstantNote {
  const char* name;
  double Constants::*value;
  const char* source;  // with "fitted on ..." where it is
};
std::span<const ConstantNote> ConstantNotes();

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_CONSTANTS_H_
