// A transformer block: h = x + attention(norm(x)); y = h + ffn(norm(h)), the FFN dense or a mixture of experts.
// It calls attention and the phases of Moe, which are split at communication (trainer/DESIGN.md, contract 4), in order.
#ifndef JEVONS_TRAINER_MODEL_BLOCK_H_
#define JEVONS_TRAINER_MODEL_BLOCK_H_

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
  int64_t received_rows = 0;  // that came to this rank's experts
};

class Block {
 public:
  // moe null: a dense block.
  Block(int layer, float norm_eps, const Mla& attention, const Moe* moe);
  bool dense() const { return !moe_; }

  // x, y: [T,H], different buffers that outlive the backward pass.
  void Forward(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, const Tensor& x, const Tensor& y,
               BlockSaved& saved, BlockStats& stats) const;
  // dx overwritten; must not be dy. The queued weight gradients read dy.
  void BackwardInput(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, const Tensor& dy,
                     const BlockSaved& saved, float balance_scale, const Tensor& dx) const;

 private:
  // normed [T,H], rstd [T] of the stream at the block's input, and after attention.
  void NormInput(const LayerContext& ctx, const BlockWeights& w, const Tensor& x, const Tensor& normed, const Tensor& rstd) const;
  void NormHidden(const LayerContext& ctx, const BlockWeights& w, const Tensor& h, const Tensor& normed, const Tensor& rstd) const;
  void ForwardFfn(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, const Tensor& normed, const Tensor& y,
                  BlockSaved& saved, BlockStats& stats) const;
  int layer_;
  float eps_;
  Mla attention_;
  const Moe* moe_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_BLOCK_H_
