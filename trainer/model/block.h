// A transformer block: h = x + attention(norm(x)); y = h + ffn(norm(h)), the FFN dense or a mixture of experts.
//
// Both passes are six phases, split at communication (trainer/DESIGN.md, contract 4). A dense block has the same, with nothing to
// communicate, so that the blocks of two micro-batches that are zipped meet phase by phase:
//
//   forward                                             backward
//   attention, gate, counts begin to be exchanged       gradients begin to travel to the experts
//   rows begin to travel to the experts; shared         shared experts; the gradients' second hop begins
//   their second hop begins                             experts, their gradients begin to travel back; weight gradients of down
//   experts, their results begin to travel back         the second hop of these begins; weight gradients of gate and up
//   their second hop begins                             sum of what came; gate, norm
//   sum of the results                                  attention
//
// Second hops are those of forwarded tokens; straight ones have none.
//
// Zipped, the backward first, each transfer has products of the other micro-batch beside it, in the order of the report's trace
// (3.2.1, figure 4): gradients out beside attention, counts beside the shared experts' backward, rows out beside the experts' backward, gradients back beside
// their weight gradients and the experts' forward, results back beside attention's backward. Of forwarded ones these are the hops over the network; those
// inside a node, in the same order, beside the shared experts' forward, the weight gradients of gate and up, those of down, and the gate's backward.
#ifndef JEVONS_TRAINER_MODEL_BLOCK_H_
#define JEVONS_TRAINER_MODEL_BLOCK_H_

#include "parallel/pipeline/phases.h"
#include "trainer/model/mla.h"
#include "trainer/model/moe.h"

namespace jevons {

struct BlockWeights {
  Weight input_norm, post_attention_norm;  // [H]
  MlaWeights attention;
  FfnWeights ffn;  // a dense block's
  MoeWeights moe;  // an expert block's
};

struct BlockSaved {
  Tensor x, h;  // [T,H], x the caller's; their norms are computed again in backward (report 3.2.3)
  MlaSaved attention;
  FfnSaved ffn;
  MoeSaved moe;
};

// What a forward pass of one micro-batch reports besides its output.
struct BlockStats {
  double* balance_loss = nullptr;  // written by an expert block, where the stream works: sum over the sequences, before alpha
  Tensor counts;                   // likewise: [E] I64
  int64_t received_rows = 0;       // that came to this rank's experts
};

class Block {
 public:
  // moe null: a dense block.
  Block(int layer, float norm_eps, const Mla& attention, const Moe* moe);
  bool dense() const { return !moe_; }

  // x, y: [T,H], different buffers that outlive the backward pass.
  Phases Forward(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, Tensor x, Tensor y, BlockSaved& saved,
                 BlockStats& stats) const;
  // dx overwritten; must not be dy. dy must live until the weight gradients have run if KeepsGradient says so.
  Phases BackwardInput(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, Tensor dy, const BlockSaved& saved,
                       float balance_scale, Tensor dx) const;

  bool KeepsGradient(const LayerContext& ctx, const BlockWeights& w) const;

 private:
  // normed [T,H], rstd [T] of the stream at the block's input, and after attention.
  void NormInput(const LayerContext& ctx, const BlockWeights& w, const Tensor& x, const Tensor& normed, const Tensor& rstd) const;
  void NormHidden(const LayerContext& ctx, const BlockWeights& w, const Tensor& h, const Tensor& normed,
                  const Tensor& rstd) const;
  int layer_;
  float eps_;
  Mla attention_;
  const Moe* moe_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_BLOCK_H_
