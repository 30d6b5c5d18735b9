// DeepSeekMoE (DeepSeek-V3 report 2.1.2): y = shared(x) + sum over the chosen experts of weight * expert(x); no token is
// dropped. Written as the phases of a block (trainer/DESIGN.md, contract 4): gate | dispatch | experts | combine, each forward and
// backward; the backward of a combine is a dispatch with the same handle, and the reverse (contract 5).
#ifndef JEVONS_TRAINER_MODEL_MOE_H_
#define JEVONS_TRAINER_MODEL_MOE_H_

#include "configs/run.pb.h"
#include "kernels/ops/router.h"
#include "parallel/ep/dispatcher.h"
#include "trainer/model/ffn.h"
#include "trainer/model/linear.h"

namespace jevons {

struct MoeDims {
  RouterDesc router;
  int64_t hidden = 0, intermediate = 0, shared_intermediate = 0;  // H, I, shared experts * I (0 = none)
};

RoutingShape RoutingOf(const MoeConfig& config);  // one expert where there are none

struct MoeWeights {
  Weight gate;  // [E, H], FP32
  Tensor bias;  // [E] FP32: state, not trained by gradient
  FfnWeights shared;
  ExpertWeight gate_up;  // [experts here, 2I, H]
  ExpertWeight down;     // [experts here, H, I]
};

struct MoeSaved {
  bool routed = false;  // the gate has chosen, here or in a forward pass before this one (contract 5)
  DispatchHandle handle;
  FfnSaved shared;
  struct UntilB {
    Tensor scores, indices, weights;  // [T,E], [T,K], [T,K]
    Tensor fractions;                 // [sequences, E]
    CachedActivation gate_up;         // [R, 2I]
    Tensor row_weights;               // [R]
  } until_b;
  struct UntilW {
    Activation received;  // [R,H]; in FP8 its codes
  } until_w;
};

// Transfers under way between two phases.
struct MoeTransfer {
  Activation
      rows;  // at the experts: [., H], in FP8 its codes only; of a backward pass on its way back the gradient of gate_up's outputs
  Tensor row_values;  // at the experts, where they travel too, [., 1] FP32
  RowTransfer under_way;
};

class Moe {
 public:
  Moe(const MoeDims& dims, Dispatcher& dispatcher) : dims_(dims), dispatcher_(dispatcher) {}

  // Forward. counts: [E] I64, rows per expert of this micro-batch, which begin to be exchanged. *balance_loss: the sum of the sequences'
  // balance losses. Both lie where the stream works. Where it is routed, nothing is to be done.
  void ForwardGate(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const Tensor& x, const Tensor& counts,
                   double* balance_loss, MoeSaved& saved) const;
  // Sends the rows to their experts.
  void ForwardDispatch(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, MoeSaved& saved,
                       MoeTransfer& transfer) const;
  // Rows on their way, to the experts or back from them: their second hop begins, where they take two.
  void Advance(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer) const;
  // y: [T,H] = shared(x), while the rows travel.
  void ForwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y, MoeSaved& saved) const;
  // Takes what arrived, runs this rank's experts, sends the results back.
  void ForwardExperts(const LayerContext& ctx, const MoeWeights& w, MoeSaved& saved, MoeTransfer& transfer) const;
  // y += the experts' results.
  void ForwardCombine(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer, const Tensor& y) const;

  // Backward, in reverse; x as in forward. balance_scale: d(total loss) / d(balance loss of one sequence).
  void BackwardCombine(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const MoeSaved& saved,
                       MoeTransfer& transfer) const;
  void BackwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const Tensor& x, const MoeSaved& saved,
                      const Tensor& dx) const;  // dx overwritten
  void BackwardExperts(const LayerContext& ctx, const MoeWeights& w, const MoeSaved& saved, MoeTransfer& transfer) const;
  // The second hop of what goes back, with gate_up's weight gradient put off until now: BackwardExperts has put off that of down, so that
  // each hop has one beside it.
  void AdvanceExperts(const LayerContext& ctx, const MoeWeights& w, const MoeSaved& saved, MoeTransfer& transfer) const;
  void BackwardDispatch(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const Tensor& x,
                        const MoeSaved& saved, float balance_scale, MoeTransfer& transfer,
                        const Tensor& dx) const;  // dx added to

 private:
  bool local() const;  // one rank holds all experts: rows do not travel
  // To the experts: the rows of x [T,H], each for its K pairs, and a value with each. In FP8 codes travel, half the bytes of
  // BF16, and are what the experts' products read; `lost` counts what the one rounding loses.
  void Dispatch(const LayerContext& ctx, const MoeSaved& saved, const Tensor& x, const Tensor& values, bool fp8, QuantStats* lost,
                Arena& destination, MoeTransfer& transfer) const;
  void FinishDispatch(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer) const;
  // Back from them.
  void Combine(const LayerContext& ctx, const DispatchHandle& handle, const Tensor& rows, const Tensor& values,
               MoeTransfer& transfer) const;
  // The rows of each expert that has some; in a part for each source where a product would join what blocks keep apart.
  static std::vector<ExpertSegment> Segments(const MoeSaved& saved, const ProductPlan& plan);
  void PushExpertGradients(const LayerContext& ctx, const MoeSaved& saved, const Activation& dy, const Activation& x,
                           const ExpertWeight& w) const;
  static Tensor GateInput(const LayerContext& ctx, const Tensor& x);

  MoeDims dims_;
  Dispatcher& dispatcher_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_MOE_H_
