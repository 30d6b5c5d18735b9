// One optimizer step on one rank: the schedule of its stages, the gradients' sums, balance, AdamW.
// It owns everything that lives as long as the run: weights, optimizer state, arenas.
#ifndef JEVONS_TRAINER_STEP_TRAIN_STEP_H_
#define JEVONS_TRAINER_STEP_TRAIN_STEP_H_

#include <array>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "data/validation.h"
#include "kernels/base/status.h"
#include "parallel/ep/balance.h"
#include "parallel/pipeline/executor.h"
#include "parallel/pipeline/measured_step.h"
#include "trainer/model/head.h"
#include "trainer/model/partition.h"
#include "trainer/model/stage.h"
#include "trainer/optim/zero1.h"
#include "trainer/spec/schedules.h"
#include "trainer/step/layout.h"
#include "trainer/step/memory_use.h"
#include "trainer/step/step_buffers.h"

namespace jevons {

// A step beside the same step without FP8.
struct ShadowReport {
  double loss = 0;                            // of the same batch and weights; nats per token
  std::vector<std::array<double, 3>> errors;  // per layer: relative error of forward, dgrad and wgrad products (model/shadow.h)
};

struct StepStats {
  double loss = 0;             // mean cross-entropy of the batch, of the main model
  double mtp_loss = 0;         // mean over tokens and MTP modules; 0 without
  double balance_loss = 0;     // mean over the sequences, summed over the layers, before alpha
  double gradient_norm = 0;    // before clipping
  double max_over_mean = 0;    // expert load, the worst layer's
  int64_t dead_experts = 0;    // over all layers
  std::vector<int64_t> loads;  // [moe layers, E] rows per expert, of the whole batch
  PhaseTimer::Seconds seconds{};
  Traffic exchanged;  // between ranks, over all of them
  Fp8Stats fp8;       // of all ranks' quantisations in the step
  std::optional<ShadowReport> shadow;
  int64_t host_waits = 0;  // of this rank for its device: MoE layers times micro-batches, and one more
};

// What a step comes to before a weight moves: the same on every rank, but for `contributed`.
struct StepResult {
  StepStats stats;  // but for the load, of which Apply tells
  GradientSummary gradient;
  std::string non_finite;      // what is NaN or Inf, and where it was first seen; empty: nothing is, and the step can be applied
  std::vector<double> losses;  // [micro-batches] of the main model; nats per token
  uint64_t contributed =
      0;  // hash of what this rank has computed: its losses, and where steps may be computed again (train.bad_step.policy, train.verify_products) its gradients
};

// That a step was not applied, and why; what to do about it.
absl::Status NotApplied(const StepPlan& plan, const std::string& why);

class TrainStep {
 public:
  // config: valid, model.vocab_size resolved, with all the stages that it will begin: their memory is reserved. Collective.
  TrainStep(const RunConfig& config, Mesh& mesh);
  // The same step on a device that only counts, for a mesh that pretends: it computes nothing, every figure is 0, and memory() is what
  // the step of a run takes. load: of this rank's experts (parallel/ep/dispatcher.h).
  struct Counting {
    double load = 1;
  };
  TrainStep(const RunConfig& config, Mesh& mesh, const Counting& counting);

  void Initialize();

  // From the next step on by this stage's config (configs/stages.h). Weights and the optimizer's state stay as they are.
  void BeginStage(const RunConfig& stage);

  // The samples of this rank in a step of `sequences`: the range to add to the step's first sample.
  Range SamplesOf(int64_t sequences) const;

  // A step in two halves: Compute changes no weight, and gives the same bits again. Apply takes the result of the last Compute, which is
  // finite. Collective.
  StepResult Compute(const StepPlan& plan, const SampleBatch& batch);
  StepStats Apply(const StepPlan& plan, StepResult result);
  // Both. NumericalError (on every rank), naming step, layer and tensor, when a loss or a gradient is NaN or Inf: nothing has been
  // updated then.
  absl::StatusOr<StepStats> Run(const StepPlan& plan, const SampleBatch& batch);
  // Of the last Compute: see ZeroOptimizer. Collective.
  std::vector<ParameterGradient> ParameterGradients(const StepResult& result);
  uint64_t GradientHash();

  // Hashes of every dense weight and gate bias are compared over the dp ranks of all its holders, of every expert's weight over the edp
  // ranks, FP8 codes with them; what one rank alone holds nobody can compare. NumericalError on the ranks of a group that differs, naming the
  // weight, and the ranks and hosts that have other bits than most; Ok on others. Collective over the world.
  absl::Status CompareReplicas();

  // Of what this rank holds for the whole run: a hash of each slice of State(). Memory that loses a bit changes one; else only Apply and
  // RestoreWeights do.
  std::vector<uint64_t> StateHashes() const;

  // Mean cross-entropy over `sequences` validation samples, at most, spread evenly over the set. NumericalError (on every rank), naming sequence, layer and tensor,
  // when it is NaN or Inf. Collective.
  struct Evaluation {
    double loss = 0;  // nats per token
    int64_t tokens = 0;
  };
  absl::StatusOr<Evaluation> Evaluate(const ValidationSet& validation, int64_t sequences,
                                      const std::function<void(int64_t done, int64_t sequences)>& progress = {});

  // Tokens of which those from `scored` on are scored, each after all before it: 1 <= scored < tokens, of which there are at most
  // data.sequence_length + 1.
  struct ScoredSequence {
    std::vector<int32_t> tokens;
    int64_t scored = 1;
  };
  // [sequences], each [tokens - scored]. Positions count from a sequence's first token, and on the CPU backend its scores are the same bits
  // whatever it is scored with. NumericalError (on every rank), naming sequence, layer and tensor, where NaN or Inf comes up. Collective;
  // the same sequences on all ranks.
  absl::StatusOr<std::vector<std::vector<TokenScore>>> Score(
      std::span<const ScoredSequence> sequences, const std::function<void(int64_t done, int64_t sequences)>& progress = {});

  // Runs the passes of an evaluation of so many sequences, for a step that only counts.
  void CountEvaluation(int64_t sequences);

  // What a checkpoint holds, slice by slice; the same list says where a load reads to, and then RestoreWeights.
  std::vector<StateSlice> State() const;
  void RestoreWeights();
  // To be called when somebody else has changed weights(): remakes what is made of them.
  void WeightsChanged();
  // Likewise of those that weights() does not keep.
  void TakeWeights(std::span<const PassingWeight> weights);
  const Stream& stream() const { return stream_.get(); }

  MemoryUse memory() const;
  MemoryLedger memory_ledger() const;
  // The most rows that a micro-batch brought to this rank's experts at a stage, relative to an even load.
  double peak_load() const;
  // What the schedule of the last Run did, on rank 0 of the world; no ranks elsewhere, and before the first Run. Collective.
  MeasuredStep MeasureLastStep();
  const Partition& partition() const { return partition_; }
  const WeightStore& weights() const { return *weights_; }
  const ModelWeights& model_weights() const { return binding_->weights(); }
  PhaseTimer& timer() { return timer_; }

 private:
  TrainStep(const RunConfig& config, Mesh& mesh, Device device, int64_t reserved, double load);
  void MakeNetwork();  // what depends on a stage's config
  LayerContext Context();
  Range Block(int64_t count) const;                           // this rank's of a step's micro-batches
  MicroBatch MicroBatchAt(int64_t round, bool exists) const;  // of what batch_ holds
  // Runs the schedule of so many micro-batches.
  void RunStages(const StageStep& step, int64_t micro_batches);
  int64_t LegalMicroBatches(int64_t at_least) const;  // the fewest that the schedule takes
  // mine: the terms of the losses of this pipeline's micro-batches, one after the other; 0 where another rank computes them. Returns
  // those of all, the same bits on every rank.
  std::vector<double> GatherLosses(std::span<const double> mine, int64_t terms, Range block, int64_t count);
  // Their sums in the order of micro-batches over a fixed tree.
  LossSums SumLosses(std::span<const double> terms, int64_t count) const;
  // "the loss is NaN or Inf ...; first seen in ...", or nothing.
  std::string NonFiniteLoss(const LossSums& sums, Range block, int64_t rounds);
  std::string FindNonFinite(Range block, int64_t rounds);
  static constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  std::string WordsOfLowest(int64_t index, const std::string& words);
  absl::StatusOr<Evaluation> EvaluateLooking(const ValidationSet& validation, int64_t sequences,
                                             const std::function<void(int64_t, int64_t)>& progress, NonFinite* found);
  int64_t EvaluatedAtOnce() const;  // micro-batches of a pipeline
  // Forward alone, of `here` micro-batches of this pipeline, one after the other in the arguments.
  std::vector<double> EvaluateSome(const LayerContext& ctx, std::span<const int32_t> tokens,
                                   std::span<const int32_t> document_start, std::span<const int32_t> labels,
                                   int64_t micro_batches, int64_t here);
  // Which sequences make up which micro-batches of Score.
  std::vector<std::vector<size_t>> ScoredBatches(std::span<const ScoredSequence> sequences) const;
  std::vector<std::vector<TokenScore>> ScoreLooking(std::span<const ScoredSequence> sequences,
                                                    const std::function<void(int64_t, int64_t)>& progress, NonFinite* found);
  void UpdateBalance(double gamma, StepStats& stats);
  bool ShadowDue(int64_t step) const;
  double ShadowLoss(const StepPlan& plan);
  // Sums of the main model's losses of `micro_batches` that are in batch_, `here` of them not empty; 0 where another rank computes
  // them. labels: [their sequences, S] I32 where the stream works. The host waits for them.
  std::vector<double> ForwardLosses(const LayerContext& ctx, const ModelWeights& weights, int64_t micro_batches, int64_t here,
                                    const Tensor& labels);
  std::vector<std::array<double, 3>> SumShadowErrors();
  Fp8Stats SumFp8Stats();
  Traffic SumTraffic(Traffic before);

  RunConfig config_;  // of the stage
  Mesh& mesh_;
  Partition partition_;
  OwnedStream stream_;
  MicroPool pool_;
  Arena scratch_;
  PhaseTimer timer_;
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
  // Of the last step alone: its size does not grow with the run.
  struct Recorder final : ActionObserver {
    void Ran(const Action&, double begin, double end, double waited) override { actions.push_back({begin, end, waited}); }
    std::vector<RanAction> actions;
  };
  Recorder recorder_;
  const Executor* recorded_ = nullptr;                 // whose actions those are
  double earlier_peak_load_ = 0;                       // before the stage of the run began
  std::vector<std::unique_ptr<NetworkStage>> stages_;  // of the pipeline, by virtual stage; null: on another rank
  std::map<std::pair<int64_t, bool>, std::unique_ptr<Executor>> executors_;  // by micro-batches, and whether forward alone
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_STEP_TRAIN_STEP_H_
