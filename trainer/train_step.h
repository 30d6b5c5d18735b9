// One optimizer step on one rank: micro-batches forward and backward, gradients over the fixed tree, balance, AdamW.
// It owns everything that lives as long as the run: weights, optimizer state, arenas.
#ifndef JEVONS_TRAINER_TRAIN_STEP_H_
#define JEVONS_TRAINER_TRAIN_STEP_H_

#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "data/validation.h"
#include "kernels/base/status.h"
#include "parallel/ep/balance.h"
#include "trainer/memory_use.h"
#include "trainer/model/model.h"
#include "trainer/optim/schedules.h"
#include "trainer/optim/zero1.h"
#include "trainer/step_buffers.h"

namespace jevons {

// A step beside the same step without FP8.
struct ShadowReport {
  double loss = 0;                            // of the same batch and weights; nats per token
  std::vector<std::array<double, 3>> errors;  // per layer: relative error of forward, dgrad and wgrad products (model/shadow.h)
};

struct StepStats {
  double loss = 0;          // mean cross-entropy of the batch, of the main model
  double mtp_loss = 0;      // mean over tokens and MTP modules; 0 without
  double balance_loss = 0;  // mean over the sequences, summed over the layers, before alpha
  double gradient_norm = 0; // before clipping
  double max_over_mean = 0; // expert load, the worst layer's
  int64_t dead_experts = 0; // over all layers
  std::vector<int64_t> loads;  // [moe layers, E] rows per expert, of the whole batch
  PhaseTimer::Seconds seconds{};
  Dispatcher::Bytes exchanged; // between ranks, over all of them
  Fp8Stats fp8;                // of all ranks' quantisations in the step
  std::optional<ShadowReport> shadow;
  int64_t host_waits = 0;      // of this rank for its device: MoE layers times micro-batches, and one more
};

class TrainStep {
 public:
  // config: valid, model.vocab_size resolved. Collective.
  TrainStep(const RunConfig& config, Mesh& mesh);

  void Initialize();

  // The samples of this rank in a step of `sequences`: the range to add to the step's first sample.
  Range SamplesOf(int64_t sequences) const;

  // NumericalError (on every rank), naming step, layer and tensor, when a loss or a gradient is NaN or Inf: nothing has been
  // updated then. Collective.
  absl::StatusOr<StepStats> Run(const StepPlan& plan, const SampleBatch& batch);

  // Mean cross-entropy over `sequences` validation samples, at most, spread evenly over the set. NumericalError (on every rank), naming sequence, layer and tensor,
  // when it is NaN or Inf. Collective.
  struct Evaluation {
    double loss = 0;  // nats per token
    int64_t tokens = 0;
  };
  absl::StatusOr<Evaluation> Evaluate(const ValidationSet& validation, int64_t sequences,
                                      const std::function<void(int64_t done, int64_t sequences)>& progress = {});

  // What a checkpoint holds, slice by slice; the same list says where a load reads to, and then RestoreWeights.
  std::vector<StateSlice> State() const;
  void RestoreWeights();
  // To be called when somebody else has changed weights(): remakes what is made of them.
  void WeightsChanged();
  const Stream& stream() const { return stream_.get(); }

  MemoryUse memory() const;
  MemoryLedger memory_ledger() const;
  // The most rows that a micro-batch brought to this rank's experts, relative to an even load.
  double peak_load() const { return peak_load_; }
  const WeightStore& weights() const { return *weights_; }
  const ModelWeights& model_weights() const { return binding_->weights(); }
  PhaseTimer& timer() { return timer_; }

 private:
  LayerContext Context();
  GradientLayout Layout() const;
  MicroBatch MicroBatchAt(int64_t round, bool exists) const;  // of what batch_ holds
  // Sums of the losses of all micro-batches over the fixed tree; the same bits on every rank.
  LossSums SumLosses(const std::vector<LossSums>& mine, Range block, int64_t count);
  absl::Status CheckLosses(const StepPlan& plan, const LossSums& sums, Range block, int64_t rounds);
  std::string FindNonFinite(Range block, int64_t rounds);
  static constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  std::string WordsOfLowest(int64_t index, const std::string& words);
  absl::StatusOr<Evaluation> EvaluateLooking(const ValidationSet& validation, int64_t sequences,
                                             const std::function<void(int64_t, int64_t)>& progress, NonFinite* found);
  void UpdateBalance(double gamma, StepStats& stats);
  bool ShadowDue(int64_t step) const;
  double ShadowLoss(const StepPlan& plan);
  // The sum of the losses, for which the host waits.
  double EvaluateNow(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch, const Tensor& labels);
  std::vector<std::array<double, 3>> SumShadowErrors();
  Fp8Stats SumFp8Stats();
  Dispatcher::Bytes SumExchanged(const Dispatcher::Bytes& before);

  RunConfig config_;
  Mesh& mesh_;
  OwnedStream stream_;
  Arena saved_, scratch_;
  PhaseTimer timer_;
  WgradQueue wgrad_;
  Shadow shadow_;  // of the current step
  Dispatcher dispatcher_;
  BatchBuffer batch_;
  std::unique_ptr<WeightStore> weights_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<WeightBinding> binding_;
  std::unique_ptr<WeightBinding> shadow_binding_;  // without FP8; only where steps are shadowed
  std::unique_ptr<GradientStore> gradients_;
  std::unique_ptr<ZeroOptimizer> optimizer_;
  std::unique_ptr<StepTotals> totals_;
  std::unique_ptr<Staging> bias_steps_;  // [moe layers, E] FP32
  double peak_load_ = 0;
};

// Every number of micro-batches that a step of this run may have.
std::vector<int64_t> MicroBatchCounts(const RunConfig& config);
DType ComputeDType(const RunConfig& config);
Device DeviceOf(const RunConfig& config);
// What computes the matrix products of a run, for the log: "BF16: cpu AVX3 vdpbf16ps", "FP8 over FP32: ...".
std::string ProductsText(const RunConfig& config);

}  // namespace jevons

#endif  // JEVONS_TRAINER_TRAIN_STEP_H_
