#include "trainer/step/train_step.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/defaults.h"
#include "configs/stages.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"
#include "parallel/hash.h"
#include "parallel/pipeline/passes.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

// Address space of an activation arena: what is planned if this rank's experts get every row, twice over, and room for
// operators' temporaries, which on a device are larger. Pages are taken when they are first needed.
int64_t ReservedBytes(const RunConfig& config, Mesh& mesh) {
  const int64_t temporaries = int64_t{config.parallel().backend() == CUDA ? 16 : 4} << 30;
  return 2 * PlanMemory(config, mesh.shape(), mesh.world().rank(), mesh.shape().ep).use.activations + temporaries;
}

// Of a pipeline's micro-batches, for each of its ranks: fills and drains are then a small part.
constexpr int64_t kEvaluatedAtOnce = 8;

int64_t MostRounds(const MeshShape& mesh, const RunConfig& config) {
  int64_t most = 1;
  for (const RunConfig& stage : StageConfigs(config))
    for (const int64_t count : MicroBatchCounts(stage)) most = std::max(most, Rounds(mesh, count));
  return most;
}

}  // namespace

TrainStep::TrainStep(const RunConfig& config, Mesh& mesh)
    : TrainStep(config, mesh, DeviceOf(config), ReservedBytes(config, mesh), /*load=*/1) {}

TrainStep::TrainStep(const RunConfig& config, Mesh& mesh, const Counting& counting)
    : TrainStep(config, mesh, Device::kNone, /*reserved=*/0, counting.load) {}

TrainStep::TrainStep(const RunConfig& config, Mesh& mesh, Device device, int64_t reserved, double load)
    : config_(config),
      mesh_(mesh),
      partition_(Partition::Of(config).value()),
      stream_(device, DeviceOf(config)),
      pool_(reserved, device),
      scratch_("scratch", reserved, device),
      timer_(stream_.get()),
      dispatcher_(mesh.shape().forwards ? EpGroups(mesh.ep(), mesh.shape().ep_nodes, &mesh.ep_rail(), &mesh.ep_local())
                                        : EpGroups(mesh.ep(), mesh.shape().ep_nodes),
                  RoutingOf(config.model().moe()),
                  {.stream = stream_.get(), .load = load, .verify = config.parallel().verify_transfers()}),
      batch_(stream_.get()) {
  const Stream& stream = stream_.get();
  const int pp_rank = mesh.rank().pp;
  // Masters, where the compute type is FP32, and what a shadowed step compares its products with are not passing.
  const bool keeps_all = ComputeDType(config) == DType::kF32 || config.precision().shadow_interval() > 0;
  const PassingParams codes_alone = [precision = config.precision()](const ParamSpec& spec) {
    return PlanOf(spec, precision).fp8;
  };
  weights_ = std::make_unique<WeightStore>(config.model(), dispatcher_.local_experts(), ComputeDType(config), stream,
                                           partition_.HeldBy(pp_rank), keeps_all ? PassingParams() : codes_alone);
  MakeNetwork();
  binding_ = std::make_unique<WeightBinding>(config.model(), *weights_, config.precision());
  if (config.precision().shadow_interval() > 0) shadow_binding_ = std::make_unique<WeightBinding>(config.model(), *weights_);
  gradients_ = std::make_unique<GradientStore>(*weights_, SumsOf(config), stream.device);
  binding_->BindGradients(*gradients_);
  optimizer_ =
      std::make_unique<ZeroOptimizer>(config.optimizer(), *weights_, partition_, mesh,
                                      [this](const OpContext&, std::span<const PassingWeight> weights) { TakeWeights(weights); });
  if (config.train().bad_step().policy() == REPLAY || config.train().verify_products() > 0) optimizer_->HashContributions();
  totals_ = std::make_unique<StepTotals>(stream, MostRounds(mesh.shape(), config), model_->loss_terms(), model_->moe_layers(),
                                         config.model().moe().routed_experts());
  bias_steps_ = std::make_unique<Staging>(
      stream.device, model_->moe_layers() * config.model().moe().routed_experts() * static_cast<int64_t>(sizeof(float)));
}

void TrainStep::MakeNetwork() {
  model_ = std::make_unique<Model>(config_.model(), config_.data().sequence_length(), dispatcher_, stream_.get());
  stages_.resize(partition_.parts().size());
  for (const int stage : partition_.StagesOf(mesh_.rank().pp))
    stages_[static_cast<size_t>(stage)] =
        std::make_unique<NetworkStage>(*model_, partition_.parts()[static_cast<size_t>(stage)], pool_);
}

void TrainStep::BeginStage(const RunConfig& stage) {
  Synchronize(stream_.get());  // what goes is in use until then
  earlier_peak_load_ = peak_load();
  executors_.clear();
  recorded_ = nullptr;
  stages_.clear();
  config_ = stage;
  MakeNetwork();
}

Range TrainStep::Block(int64_t count) const { return BlockOf(count, mesh_.shape().dp(), mesh_.rank().dp); }

LayerContext TrainStep::Context() {
  return {.ops = {.stream = stream_.get(), .scratch = &scratch_},
          .dtype = ComputeDType(config_),
          .timer = &timer_,
          .non_finite = nullptr,
          .fp8 = totals_->fp8(),
          .recompute_up_projections = config_.train().recompute_up_projections()};
}

void TrainStep::Initialize() {
  optimizer_->Initialize(Context().ops, config_.model().init_std(), config_.train().seed());
  WeightsChanged();
}

void TrainStep::RestoreWeights() {
  optimizer_->RestoreWeights(Context().ops);
  WeightsChanged();
}

void TrainStep::WeightsChanged() { binding_->Quantize(Context().ops, &totals_->fp8()->weights); }

void TrainStep::TakeWeights(std::span<const PassingWeight> weights) {
  binding_->Quantize(Context().ops, weights, &totals_->fp8()->weights);
}

Range TrainStep::SamplesOf(int64_t sequences) const {
  const int64_t micro = config_.train().micro_batch_sequences();
  const Range block = Block(sequences / micro);
  return {block.begin * micro, block.end * micro};
}

MicroBatch TrainStep::MicroBatchAt(int64_t round, bool exists) const {
  const int64_t sequences = config_.train().micro_batch_sequences();
  return exists ? batch_.At(round * sequences, sequences) : batch_.At(0, 0);
}

void TrainStep::RunStages(const StageStep& step, int64_t micro_batches) {
  std::unique_ptr<Executor>& executor = executors_[{micro_batches, step.forward_only}];
  if (executor == nullptr) {
    Schedule schedule =
        ExecutableSchedule(partition_.Shape(micro_batches), config_.train().recompute_stages() && !step.forward_only).value();
    if (step.forward_only) schedule = ForwardOnly(std::move(schedule));
    if (schedule.has_pairs(mesh_.pp().rank())) dispatcher_.MoveInBackground();
    std::vector<Stage*> stages;
    for (const auto& stage : stages_) stages.push_back(stage.get());
    executor = std::make_unique<Executor>(std::move(schedule), mesh_.pp(), stream_.get(), stages,
                                          step.forward_only ? nullptr : &recorder_);
  }
  if (!step.forward_only) {
    recorder_.actions.clear();
    recorded_ = executor.get();
  }
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    if (stages_[stage] == nullptr) continue;
    StageStep own = step;
    own.reduce = [&, stage] { optimizer_->BeginReduce(step.ctx.ops, *gradients_, static_cast<int>(stage)); };
    stages_[stage]->Begin(own);
  }
  executor->Run();
}

int64_t TrainStep::LegalMicroBatches(int64_t at_least) const {
  while (!partition_.Shape(at_least).Validate().ok()) ++at_least;
  return at_least;
}

std::vector<double> TrainStep::GatherLosses(std::span<const double> mine, int64_t terms, Range block, int64_t count) {
  // Each has one owner; the others add the integer 0 to its bits.
  std::vector<int64_t> bits(static_cast<size_t>(count * terms), 0);
  for (int64_t i = 0; i < block.size() * terms; ++i)
    bits[static_cast<size_t>(block.begin * terms + i)] = std::bit_cast<int64_t>(mine[static_cast<size_t>(i)]);
  mesh_.world().AllReduceSum(bits);
  std::vector<double> all(bits.size());
  std::transform(bits.begin(), bits.end(), all.begin(), [](int64_t b) { return std::bit_cast<double>(b); });
  return all;
}

LossSums TrainStep::SumLosses(std::span<const double> terms, int64_t count) const {
  std::vector<double> main, mtp, balance;
  const size_t each = terms.size() / static_cast<size_t>(count);
  for (size_t i = 0; i < terms.size(); i += each) {
    const LossSums sums = LossSums::Of(terms.subspan(i, each), config_.model().mtp().depth());
    main.push_back(sums.main);
    mtp.push_back(sums.mtp);
    balance.push_back(sums.balance);
  }
  return {.main = TreeSum(main), .mtp = TreeSum(mtp), .balance = TreeSum(balance)};
}

StepResult TrainStep::Compute(const StepPlan& plan, const SampleBatch& batch) {
  const int64_t waits_before = HostSynchronizations();
  batch_.Upload(batch.tokens,
                config_.data().document_mask() ? std::span<const int32_t>(batch.document_start) : std::span<const int32_t>(),
                config_.data().sequence_length());
  const bool shadowed = ShadowDue(plan.step);
  const double shadow_loss = shadowed ? ShadowLoss(plan) : 0;  // before the weights move
  const Traffic traffic_before = dispatcher_.traffic();
  LayerContext ctx = Context();
  if (shadowed) {
    shadow_.layers.assign(static_cast<size_t>(config_.model().layers() + config_.model().mtp().depth()), {});
    ctx.shadow = &shadow_;
  }
  const int64_t micro = config_.train().micro_batch_sequences();
  const int64_t count = plan.sequences / micro;
  const Range block = Block(count);
  const int64_t depth = config_.model().mtp().depth();
  const double tokens = static_cast<double>(plan.sequences) * static_cast<double>(config_.data().sequence_length());
  // The mean's 1 / tokens would bring the gradients of activations below the FP8 recipe's floor of 1e-4 per tile. So the loss is
  // taken times the power of two next to the tokens, and the optimizer divides by it: exact, both ways.
  const double scale = std::exp2(std::floor(std::log2(tokens)));
  const LossScales scales{
      .main = static_cast<float>(scale / tokens),
      .mtp = depth > 0 ? static_cast<float>(scale * plan.mtp_weight / static_cast<double>(depth) / tokens) : 0.0f,
      .balance = static_cast<float>(scale * config_.balance().sequence_loss() / static_cast<double>(plan.sequences))};

  gradients_->Begin(ctx.ops, StepFixedPoint(scale, count * (1 + depth)));
  // While the batch grows a schedule may not take the pipeline's number: empty micro-batches make up for what is missing.
  const int64_t rounds = LegalMicroBatches(Rounds(mesh_.shape(), count));
  totals_->Begin();
  RunStages({.ctx = ctx,
             .weights = &binding_->weights(),
             .batch = [&](int i) { return MicroBatchAt(i, i < block.size()); },
             .recompute = config_.train().recompute_stages(),
             .scales = scales,
             .totals = [&](int i) { return totals_->Row(i); }},
            rounds);

  PhaseScope reduce(&timer_, Phase::kReduce);
  totals_->BeginRead();
  totals_->Clear();  // what the new weights' codes lose is the next step's
  StepResult result{.stats = {},
                    .gradient = optimizer_->Reduce(ctx.ops, *gradients_, scale),
                    .non_finite = {},
                    .losses = {}};  // waits: the totals are here
  StepStats& stats = result.stats;
  stats.loads.assign(static_cast<size_t>(model_->moe_layers() * config_.model().moe().routed_experts()), 0);
  std::vector<double> mine;
  for (int64_t round = 0; round < block.size(); ++round) {
    mine.insert(mine.end(), totals_->losses(round).begin(), totals_->losses(round).end());
    const auto counts = totals_->counts(round);
    for (size_t i = 0; i < stats.loads.size(); ++i) stats.loads[i] += counts[i];
  }
  result.contributed = HashOf({}, std::as_bytes(std::span(mine)), optimizer_->contributions());
  const std::vector<double> terms = GatherLosses(mine, model_->loss_terms(), block, count);
  for (int64_t i = 0; i < count; ++i)
    result.losses.push_back(terms[static_cast<size_t>(i * model_->loss_terms())] / (tokens / static_cast<double>(count)));
  const LossSums sums = SumLosses(terms, count);
  result.non_finite = NonFiniteLoss(sums, block, rounds);
  if (result.non_finite.empty() && result.gradient.refused) result.non_finite = "the gradient of " + *result.gradient.refused;
  stats.loss = sums.main / tokens;
  stats.mtp_loss = depth > 0 ? sums.mtp / static_cast<double>(depth) / tokens : 0;
  stats.balance_loss = sums.balance / static_cast<double>(plan.sequences);
  stats.gradient_norm = result.gradient.norm;
  stats.fp8 = SumFp8Stats();
  stats.exchanged = SumTraffic(traffic_before);
  if (shadowed) stats.shadow = ShadowReport{.loss = shadow_loss / tokens, .errors = SumShadowErrors()};
  stats.host_waits = HostSynchronizations() - waits_before;
  return result;
}

StepStats TrainStep::Apply(const StepPlan& plan, StepResult result) {
  const int64_t waits_before = HostSynchronizations();
  StepStats& stats = result.stats;
  {
    PhaseScope phase(&timer_, Phase::kReduce);
    UpdateBalance(plan.gamma, stats);
  }
  {
    PhaseScope phase(&timer_, Phase::kOptimizer);
    optimizer_->Update(Context().ops, plan.learning_rate, result.gradient, plan.step + 1);
    WeightsChanged();
  }
  stats.seconds = timer_.Take();
  stats.host_waits += HostSynchronizations() - waits_before;
  return std::move(stats);
}

absl::StatusOr<StepStats> TrainStep::Run(const StepPlan& plan, const SampleBatch& batch) {
  StepResult result = Compute(plan, batch);
  if (!result.non_finite.empty()) return NotApplied(plan, result.non_finite);
  return Apply(plan, std::move(result));
}

std::vector<double> TrainStep::ForwardLosses(const LayerContext& ctx, const ModelWeights& weights, int64_t micro_batches,
                                             int64_t here, const Tensor& labels) {
  const ArenaScope scope(scratch_);
  const int64_t micro = config_.train().micro_batch_sequences();
  const Tensor sums = ctx.TempAs("losses", DType::kI64, {micro_batches});  // FP64 in truth
  Zero(ctx.ops.stream, sums);
  const auto part = [&](int64_t i) {  // the last may be short
    const int64_t begin = std::min(i * micro, labels.rows());
    return Range{begin, i < here ? std::min(begin + micro, labels.rows()) : begin};
  };
  RunStages({.ctx = ctx,
             .weights = &weights,
             .batch = [&](int i) { return batch_.At(part(i).begin, part(i).size()); },
             .forward_only = true,
             .head =
                 [&](const LayerContext& last, int i, const Tensor& hidden) {
                   const Tensor rows = last.TempAs("head.labels", DType::kI32, {hidden.rows()});
                   CopyPositions(last.ops, labels.Rows(part(i).begin, part(i).size()), 0, labels.cols(), rows);
                   HeadLoss(last, weights.head.value, hidden, rows, static_cast<double*>(sums.data) + i);
                 }},
            micro_batches);
  std::vector<double> losses(static_cast<size_t>(micro_batches));
  Fetch(ctx.ops.stream, sums.data, losses.data(), sums.bytes());
  losses.resize(static_cast<size_t>(here));
  return losses;
}

void TrainStep::UpdateBalance(double gamma, StepStats& stats) {
  mesh_.world().AllReduceSum(stats.loads);
  const auto experts = static_cast<size_t>(config_.model().moe().routed_experts());
  const OpContext ops = Context().ops;
  ArenaScope scope(scratch_);
  auto* host = static_cast<float*>(bias_steps_->data());  // read long before the next step writes here
  for (size_t layer = 0; layer < weights_->bias_names().size(); ++layer) {
    const std::span<const int64_t> load(stats.loads.data() + layer * experts, experts);
    const std::vector<float> steps = GateBiasSteps(load, static_cast<float>(gamma));
    std::copy(steps.begin(), steps.end(), host + layer * experts);
    const LoadSummary summary = SummarizeLoad(load);
    stats.max_over_mean = std::max(stats.max_over_mean, summary.max_over_mean);
    stats.dead_experts += summary.dead;
    const Tensor& bias = weights_->bias(layer);
    if (!bias) continue;
    const Tensor moves = scratch_.Allocate("gate bias steps", DType::kF32, bias.shape);
    CopyBytes(ops.stream, host + layer * experts, moves.data, moves.bytes());
    Add(ops, bias, moves, bias);
  }
}

absl::StatusOr<TrainStep::Evaluation> TrainStep::Evaluate(const ValidationSet& validation, int64_t sequences,
                                                          const std::function<void(int64_t, int64_t)>& progress) {
  PhaseScope phase(&timer_, Phase::kValidation);
  JEVONS_ASSIGN_OR_RETURN(const Evaluation evaluation, EvaluateLooking(validation, sequences, progress, nullptr));
  if (std::isfinite(evaluation.loss)) return evaluation;
  NonFinite found;  // once more, this time looking at every norm
  return EvaluateLooking(validation, sequences, nullptr, &found);
}

// A pipeline is to be filled; without one the host's part of a micro-batch is all that is kept.
int64_t TrainStep::EvaluatedAtOnce() const {
  return partition_.ranks() == 1 ? 1 : LegalMicroBatches(kEvaluatedAtOnce * partition_.ranks());
}

std::vector<double> TrainStep::EvaluateSome(const LayerContext& ctx, std::span<const int32_t> tokens,
                                            std::span<const int32_t> document_start, std::span<const int32_t> labels,
                                            int64_t micro_batches, int64_t here) {
  const int64_t S = config_.data().sequence_length();
  batch_.Upload(tokens, document_start, S);
  const ArenaScope scope(scratch_);
  const Tensor label_rows = ctx.TempAs("labels", DType::kI32, {static_cast<int64_t>(labels.size()) / S, S});
  CopyBytes(ctx.ops.stream, labels.data(), label_rows.data, label_rows.bytes());
  return ForwardLosses(ctx, binding_->weights(), micro_batches, here, label_rows);
}

void TrainStep::CountEvaluation(int64_t sequences) {
  JEVONS_CHECK(stream_.get().device == Device::kNone, "nothing is evaluated here");
  const int64_t micro = config_.train().micro_batch_sequences(), S = config_.data().sequence_length();
  const int64_t rounds = Rounds(mesh_.shape(), (sequences + micro - 1) / micro), here = std::min(EvaluatedAtOnce(), rounds);
  const std::vector<int32_t> tokens(static_cast<size_t>(here * micro * (S + 1))), labels(static_cast<size_t>(here * micro * S));
  LayerContext ctx = Context();
  ctx.fp8 = nullptr;
  EvaluateSome(ctx, tokens, config_.data().document_mask() ? std::span(labels) : std::span<const int32_t>(), labels,
               LegalMicroBatches(here), here);
}

// `found`: null, or where the place of NaN or Inf is to be noted, and told as NumericalError.
absl::StatusOr<TrainStep::Evaluation> TrainStep::EvaluateLooking(const ValidationSet& validation, int64_t sequences,
                                                                 const std::function<void(int64_t, int64_t)>& progress,
                                                                 NonFinite* found) {
  LayerContext ctx = Context();
  ctx.timer = nullptr;  // one phase, whatever is computed
  ctx.fp8 = nullptr;    // steps alone are counted
  ctx.non_finite = found;
  const int64_t S = config_.data().sequence_length(), micro = config_.train().micro_batch_sequences();
  const int64_t samples = std::min(sequences, validation.samples());
  const int64_t count = (samples + micro - 1) / micro;
  const Range block = Block(count);
  const int64_t rounds = Rounds(mesh_.shape(), count), at_once = EvaluatedAtOnce();
  std::vector<double> losses;
  int64_t labels = 0, bad = kNowhere;  // the first sequence of the first micro-batch here that is not finite
  for (int64_t round = 0; round < rounds; round += at_once) {
    const int64_t here = std::clamp<int64_t>(block.size() - round, 0, at_once);  // micro-batches
    const int64_t first = (block.begin + round) * micro, sequences_here = std::clamp<int64_t>(samples - first, 0, here * micro);
    std::vector<int32_t> tokens(static_cast<size_t>(sequences_here * (S + 1))), starts,
        next(static_cast<size_t>(sequences_here * S));
    if (config_.data().document_mask()) starts.resize(static_cast<size_t>(sequences_here * S));
    for (int64_t s = 0; s < sequences_here; ++s) {
      const std::span<int32_t> sample(tokens.data() + s * (S + 1), static_cast<size_t>(S + 1));
      JEVONS_RETURN_IF_ERROR(validation.Read(validation.SpreadSample(first + s, samples), sample,
                                             {starts.data() + s * S, starts.empty() ? 0 : static_cast<size_t>(S)}));
      std::copy(sample.begin() + 1, sample.end(), next.begin() + s * S);
    }
    labels += sequences_here * S - std::count(next.begin(), next.end(), kPaddingToken);
    // A padded position reads some token; its label is ignored, and later rows of the sequence are padding too.
    std::replace(tokens.begin(), tokens.end(), kPaddingToken, 0);
    const int64_t micro_batches = LegalMicroBatches(std::min(at_once, rounds - round));
    for (const double loss : EvaluateSome(ctx, tokens, starts, next, micro_batches, here)) {
      if (!std::isfinite(loss) && bad == kNowhere) bad = (block.begin + static_cast<int64_t>(losses.size())) * micro;
      losses.push_back(loss);
    }
    if (progress) progress(std::min((round + at_once) * mesh_.shape().dp() * micro, samples), samples);
  }
  mesh_.dp().AllReduceSum({&labels, 1});
  const double loss = TreeSum(GatherLosses(losses, 1, block, count));
  if (found != nullptr) {
    for (const auto& stage : stages_)
      if (stage != nullptr && stage->non_finite().tensor != nullptr && found->tensor == nullptr) *found = stage->non_finite();
    const std::string seen = found->tensor ? absl::StrFormat("layer %d: %s", found->layer, found->tensor) : "the output head";
    const auto of_set = [&](int64_t i) { return validation.SpreadSample(std::min(i, samples - 1), samples); };
    const std::string which = micro > 1 ? absl::StrFormat("sequences %d to %d", of_set(bad), of_set(bad + micro - 1))
                                        : absl::StrFormat("sequence %d", of_set(bad));
    return NumericalError(WordsOfLowest(bad, absl::StrFormat("%s: NaN or Inf, first seen in %s", which, seen)));
  }
  return Evaluation{.loss = labels > 0 ? loss / static_cast<double>(labels) : 0, .tokens = labels};
}

std::vector<StateSlice> TrainStep::State() const {
  std::vector<StateSlice> state = optimizer_->State();
  for (size_t i = 0; i < weights_->bias_names().size(); ++i) {
    const Tensor& bias = weights_->bias(i);
    if (!bias) continue;
    // All holders have the same bias; the first of them writes it.
    const bool writes =
        mesh_.rank().dp == 0 && mesh_.rank().pp == partition_.HoldersOf(GateBiasLayer(config_.model(), i)).front();
    state.push_back({"gate_bias/" + weights_->bias_names()[i], bias.shape, {0, writes ? bias.size() : 0}, bias});
  }
  return state;
}

}  // namespace jevons
