// Seconds of one block, head or embedding for one micro-batch on one GPU: per phase (contract 4: attention, dispatch,
// experts, combine) and verb (forward, input gradient, weight gradient), and by what the time goes into.
#ifndef JEVONS_TRAINER_PLAN_LAYER_MODEL_H_
#define JEVONS_TRAINER_PLAN_LAYER_MODEL_H_

#include <array>
#include <cstddef>

#include "trainer/plan/kernel_model.h"

namespace jevons {

enum class Cost { kProducts, kExperts, kAttention, kHead, kCasts, kElementwise, kDispatch, kCombine, kTensorParallel };
inline constexpr std::array kCostNames = {"dense products", "expert products", "attention core", "head and loss",  "FP8 casts",
                                          "elementwise",    "dispatch",        "combine",        "tensor parallel"};
inline constexpr size_t kCosts = kCostNames.size();

// Seconds by kind.
struct Work {
  std::array<double, kCosts> seconds{};
  double& operator[](Cost cost) { return seconds[static_cast<size_t>(cost)]; }
  double operator[](Cost cost) const { return seconds[static_cast<size_t>(cost)]; }
  double sum() const;
  Work& operator+=(const Work& other);
  Work& operator*=(double factor);
};
Work operator+(Work a, const Work& b);
Work operator*(Work a, double factor);

struct BlockTimes {
  Work attention_f, attention_i, attention_w;  // with everything else that is dense and precedes the dispatch
  Work experts_f, experts_i, experts_w;        // routed, with the weight gradients of the shared; or the dense FFN
  Work shared_f, shared_i;                     // shared experts
  Work recompute;                              // of the block, where all of it runs again
  Hops dispatch_f, combine_f;                  // with the plan of the dispatch
  Hops dispatch_b, combine_b;                  // combine's backward sends, dispatch's backward returns

  Work forward() const;  // one after the other
  Work input() const;
  Work weight() const { return attention_w + experts_w; }
};

// What one micro-batch costs in each part of the model under `layout`.
class LayerModel {
 public:
  LayerModel(const ModelShape& model, const Layout& layout, const KernelModel& kernels);

  BlockTimes Block(bool dense) const;
  BlockTimes Embedding() const;
  BlockTimes Head() const;           // final norm, head and loss, once
  BlockTimes MtpProjection() const;  // what an MTP module has beside its block and the head
  // F of `f` beside the full backward of `b`, phase by phase as `train` runs them (model/block.h): attn(F) + shared experts | dispatch(B),
  // mlp(B) + mlp(W) | dispatch(F), mlp(W) + mlp(F) | combine(B), attn(B) + attn(W) | combine(F); computation has the SMs left to it where a
  // message is beside it, and waits for those that it needs.
  double Overlapped(const BlockTimes& f, const BlockTimes& b) const;
  // Of each kind, computation beside communication instead of alone.
  Work Beside(const Work& work) const;

  double tokens() const { return tokens_; }  // of a micro-batch on this GPU, where tensor parallelism splits rows
  double rows() const;                       // that its experts receive, at the assumed imbalance

 private:
  void AddProduct(const Projection& product, Cost cost, Work& f, Work& i, Work& w) const;
  void AddFfn(double width, double rows, double groups, Cost cost, BlockTimes& times) const;
  void AddAttention(BlockTimes& times) const;
  void AddRouting(BlockTimes& times) const;
  Work Again(const BlockTimes& times, bool dense) const;
  double TensorParallel() const;
  double Moved(double bf16_bytes) const;  // seconds of a kernel without products; wider values move more

  ModelShape model_;
  Layout layout_;
  KernelModel kernels_;
  Precision precision_;
  double tp_;
  double tokens_;        // per GPU after the split of rows over tp
  double group_tokens_;  // per tensor-parallel group
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_LAYER_MODEL_H_
