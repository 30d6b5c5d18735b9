#include "trainer/train_step.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"
#include "trainer/plan/memory_model.h"

namespace jevons {
namespace {

// Address space of an activation arena: what is planned if this rank's experts get every row, twice over, and room for
// operators' temporaries, which on a device are larger. Pages are taken when they are first needed.
int64_t ReservedBytes(const RunConfig& config, const MeshShape& mesh, int world_rank) {
  const int64_t temporaries = int64_t{config.parallel().backend() == CUDA ? 16 : 4} << 30;
  return 2 * PlanMemory(config, mesh, world_rank, mesh.ep).activations + temporaries;
}

int64_t MostRounds(const GradientLayout& layout, const RunConfig& config) {
  int64_t most = 1;
  for (const int64_t count : MicroBatchCounts(config)) most = std::max(most, layout.Rounds(count));
  return most;
}

}  // namespace

DType ComputeDType(const RunConfig& config) {
  return config.precision().compute() == BF16 ? DType::kBF16 : DType::kF32;
}

Device DeviceOf(const RunConfig& config) { return config.parallel().backend() == CUDA ? Device::kCuda : Device::kCpu; }

std::string ProductsText(const RunConfig& config) {
  const DType compute = ComputeDType(config);
  const Device device = DeviceOf(config);
  const std::vector<ParamSpec> specs = ParameterTable(config.model());
  const bool fp8 = std::any_of(specs.begin(), specs.end(),
                               [&](const ParamSpec& spec) { return PlanOf(spec, config.precision()).fp8; });
  if (device == Device::kCuda)
    return absl::StrFormat("%s%s: %s", fp8 ? "FP8 over " : "", NameOf(compute), GemmImplementation(compute, device));
  if (!fp8) return absl::StrFormat("%s: %s", NameOf(compute), GemmImplementation(compute));
  return absl::StrFormat("FP8 over %s: %s, codes as %s", NameOf(compute), GemmImplementation(compute),
                         GemmImplementation(DType::kBF16));
}

std::vector<int64_t> MicroBatchCounts(const RunConfig& config) {
  const TrainConfig& train = config.train();
  const int64_t micro = train.micro_batch_sequences();
  std::set<int64_t> counts = {train.batch_sequences() / micro};
  if (train.batch_ramp_start() > 0)
    for (int64_t sequences = train.batch_ramp_start(); sequences < train.batch_sequences(); sequences += micro)
      counts.insert(std::max<int64_t>(1, sequences / micro));
  return {counts.begin(), counts.end()};
}

TrainStep::TrainStep(const RunConfig& config, Mesh& mesh)
    : config_(config),
      mesh_(mesh),
      stream_(DeviceOf(config)),
      saved_("saved activations", ReservedBytes(config, mesh.shape(), mesh.world().rank()), DeviceOf(config)),
      scratch_("scratch", ReservedBytes(config, mesh.shape(), mesh.world().rank()), DeviceOf(config)),
      timer_(stream_.get()),
      dispatcher_(mesh.ep(), std::max<int64_t>(1, config.model().moe().routed_experts()), stream_.get()),
      batch_(stream_.get()) {
  const Stream& stream = stream_.get();
  weights_ = std::make_unique<WeightStore>(config.model(), dispatcher_.local_experts(), ComputeDType(config), stream);
  model_ = std::make_unique<Model>(config.model(), config.data().sequence_length(), dispatcher_, stream);
  binding_ = std::make_unique<WeightBinding>(config.model(), *weights_, config.precision());
  if (config.precision().shadow_interval() > 0)
    shadow_binding_ = std::make_unique<WeightBinding>(config.model(), *weights_);
  gradients_ = std::make_unique<GradientStore>(*weights_, Layout(), MicroBatchCounts(config), stream.device);
  optimizer_ = std::make_unique<ZeroOptimizer>(config.optimizer(), *weights_, mesh);
  totals_ = std::make_unique<StepTotals>(stream, MostRounds(Layout(), config), model_->loss_terms(), model_->moe_layers(),
                                         config.model().moe().routed_experts());
  bias_steps_ = std::make_unique<Staging>(stream.device, model_->moe_layers() * config.model().moe().routed_experts() *
                                                             static_cast<int64_t>(sizeof(float)));
}

GradientLayout TrainStep::Layout() const {
  const MeshRank& rank = mesh_.rank();
  const int ep = mesh_.shape().ep;
  return {.dp = mesh_.shape().dp(), .self = rank.dp, .first_source = rank.edp * ep, .sources = ep};
}

LayerContext TrainStep::Context() {
  return {.ops = {.stream = stream_.get(), .scratch = &scratch_},
          .saved = &saved_,
          .dtype = ComputeDType(config_),
          .wgrad = &wgrad_,
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

Range TrainStep::SamplesOf(int64_t sequences) const {
  const int64_t micro = config_.train().micro_batch_sequences();
  const Range block = Layout().Block(sequences / micro, mesh_.rank().dp);
  return {block.begin * micro, block.end * micro};
}

MicroBatch TrainStep::MicroBatchAt(int64_t round, bool exists) const {
  const int64_t sequences = config_.train().micro_batch_sequences();
  return exists ? batch_.At(round * sequences, sequences) : batch_.At(0, 0);
}

LossSums TrainStep::SumLosses(const std::vector<LossSums>& mine, Range block, int64_t count) {
  // Each micro-batch has one owner; the others add the integer 0 to the bits of its losses.
  std::vector<int64_t> bits(static_cast<size_t>(3 * count), 0);
  for (size_t i = 0; i < mine.size(); ++i) {
    const size_t at = static_cast<size_t>(block.begin) + i, n = static_cast<size_t>(count);
    bits[at] = std::bit_cast<int64_t>(mine[i].main);
    bits[n + at] = std::bit_cast<int64_t>(mine[i].mtp);
    bits[2 * n + at] = std::bit_cast<int64_t>(mine[i].balance);
  }
  mesh_.dp().AllReduceSum(bits);
  std::vector<double> values(bits.size());
  std::transform(bits.begin(), bits.end(), values.begin(), [](int64_t b) { return std::bit_cast<double>(b); });
  const std::span<const double> all(values);
  const auto n = static_cast<size_t>(count);
  return {.main = TreeSum(all.subspan(0, n)),
          .mtp = TreeSum(all.subspan(n, n)),
          .balance = TreeSum(all.subspan(2 * n, n))};
}

absl::StatusOr<StepStats> TrainStep::Run(const StepPlan& plan, const SampleBatch& batch) {
  const int64_t waits_before = HostSynchronizations();
  batch_.Upload(batch.tokens, config_.data().document_mask() ? std::span<const int32_t>(batch.document_start) : std::span<const int32_t>(),
                config_.data().sequence_length());
  const bool shadowed = ShadowDue(plan.step);
  const double shadow_loss = shadowed ? ShadowLoss(plan) : 0;  // before the weights move
  const Dispatcher::Bytes bytes_before = dispatcher_.bytes_sent();
  LayerContext ctx = Context();
  if (shadowed) {
    shadow_.layers.assign(static_cast<size_t>(config_.model().layers() + config_.model().mtp().depth()), {});
    ctx.shadow = &shadow_;
  }
  const GradientLayout layout = Layout();
  const int64_t micro = config_.train().micro_batch_sequences();
  const int64_t count = plan.sequences / micro;
  const Range block = layout.Block(count, layout.self);
  const int64_t depth = config_.model().mtp().depth();
  const double tokens = static_cast<double>(plan.sequences) * static_cast<double>(config_.data().sequence_length());
  // The mean's 1 / tokens would bring the gradients of activations below the FP8 recipe's floor of 1e-4 per tile. So the loss is
  // taken times the power of two next to the tokens, and the optimizer divides by it: exact, both ways.
  const double scale = std::exp2(std::floor(std::log2(tokens)));
  const LossScales scales{
      .main = static_cast<float>(scale / tokens),
      .mtp = depth > 0 ? static_cast<float>(scale * plan.mtp_weight / static_cast<double>(depth) / tokens) : 0.0f,
      .balance = static_cast<float>(scale * config_.balance().sequence_loss() / static_cast<double>(plan.sequences))};

  gradients_->Begin(count);
  const int64_t rounds = layout.Rounds(count);
  for (int64_t round = 0; round < rounds; ++round) {
    binding_->BindGradients(*gradients_, layout.sources, round);
    const int64_t received = model_->ForwardBackward(ctx, binding_->weights(), MicroBatchAt(round, round < block.size()), scales,
                                                     totals_->Row(round));
    gradients_->EndRound(ctx.ops, round);
    if (const int64_t even = model_->EvenRows(micro, config_.data().sequence_length()); even > 0)
      peak_load_ = std::max(peak_load_, static_cast<double>(received) / static_cast<double>(even));
  }

  PhaseScope reduce(&timer_, Phase::kReduce);
  totals_->BeginRead();
  totals_->Clear();  // what the new weights' codes lose is the next step's
  const GradientSummary gradient = optimizer_->Reduce(ctx.ops, *gradients_, layout, count, scale);  // waits: the totals are here
  StepStats stats;
  stats.loads.assign(static_cast<size_t>(model_->moe_layers() * config_.model().moe().routed_experts()), 0);
  std::vector<LossSums> losses;
  for (int64_t round = 0; round < block.size(); ++round) {
    losses.push_back(LossSums::Of(totals_->losses(round), depth));
    for (size_t i = 0; i < stats.loads.size(); ++i) stats.loads[i] += totals_->counts(round)[i];
  }
  const LossSums sums = SumLosses(losses, block, count);
  JEVONS_RETURN_IF_ERROR(CheckLosses(plan, sums, block, rounds));
  if (gradient.non_finite)
    return NumericalError(absl::StrFormat(
        "step %d: the gradient of %s is NaN or Inf. The step was not applied. Lower optimizer.learning_rate.peak, or look at samples "
        "%d to %d",
        plan.step, *gradient.non_finite, plan.first_sample, plan.first_sample + plan.sequences - 1));
  UpdateBalance(plan.gamma, stats);
  {
    PhaseScope phase(&timer_, Phase::kOptimizer);
    optimizer_->Update(ctx.ops, plan.learning_rate, gradient, plan.step + 1);
    WeightsChanged();
  }
  stats.loss = sums.main / tokens;
  stats.mtp_loss = depth > 0 ? sums.mtp / static_cast<double>(depth) / tokens : 0;
  stats.balance_loss = sums.balance / static_cast<double>(plan.sequences);
  stats.gradient_norm = gradient.norm;
  stats.fp8 = SumFp8Stats();
  stats.exchanged = SumExchanged(bytes_before);
  if (shadowed) stats.shadow = ShadowReport{.loss = shadow_loss / tokens, .errors = SumShadowErrors()};
  stats.seconds = timer_.Take();
  stats.host_waits = HostSynchronizations() - waits_before;
  return stats;
}

double TrainStep::EvaluateNow(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch, const Tensor& labels) {
  double* sum = totals_->Row(0).losses;
  model_->Evaluate(ctx, weights, batch, labels, sum);
  double loss = 0;
  Fetch(ctx.ops.stream, sum, &loss, sizeof loss);
  return loss;
}

void TrainStep::UpdateBalance(double gamma, StepStats& stats) {
  mesh_.dp().AllReduceSum(stats.loads);
  const auto experts = static_cast<size_t>(config_.model().moe().routed_experts());
  const OpContext ops = Context().ops;
  ArenaScope scope(scratch_);
  auto* host = static_cast<float*>(bias_steps_->data());  // read long before the next step writes here
  for (size_t layer = 0; layer < weights_->bias_names().size(); ++layer) {
    const std::span<const int64_t> load(stats.loads.data() + layer * experts, experts);
    const std::vector<float> steps = GateBiasSteps(load, static_cast<float>(gamma));
    std::copy(steps.begin(), steps.end(), host + layer * experts);
    const Tensor& bias = weights_->bias(layer);
    const Tensor moves = scratch_.Allocate("gate bias steps", DType::kF32, bias.shape);
    CopyBytes(ops.stream, host + layer * experts, moves.data, moves.bytes());
    Add(ops, bias, moves, bias);
    const LoadSummary summary = SummarizeLoad(load);
    stats.max_over_mean = std::max(stats.max_over_mean, summary.max_over_mean);
    stats.dead_experts += summary.dead;
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

// `found`: null, or where the place of NaN or Inf is to be noted, and told as NumericalError.
absl::StatusOr<TrainStep::Evaluation> TrainStep::EvaluateLooking(const ValidationSet& validation, int64_t sequences,
                                                                  const std::function<void(int64_t, int64_t)>& progress, NonFinite* found) {
  LayerContext ctx = Context();
  ctx.timer = nullptr;  // one phase, whatever is computed
  ctx.fp8 = nullptr;    // steps alone are counted
  ctx.non_finite = found;
  const int64_t S = config_.data().sequence_length(), micro = config_.train().micro_batch_sequences();
  const int64_t samples = std::min(sequences, validation.samples());
  const int64_t count = (samples + micro - 1) / micro;
  const GradientLayout layout = Layout();
  const Range block = layout.Block(count, layout.self);
  std::vector<LossSums> losses;
  int64_t labels = 0, bad = kNowhere;  // the first sequence of the first micro-batch here that is not finite
  for (int64_t round = 0; round < layout.Rounds(count); ++round) {
    const bool exists = round < block.size();
    const int64_t first = (block.begin + round) * micro, here = exists ? std::clamp<int64_t>(samples - first, 0, micro) : 0;
    std::vector<int32_t> tokens(static_cast<size_t>(here * (S + 1))), starts, next(static_cast<size_t>(here * S));
    if (config_.data().document_mask()) starts.resize(static_cast<size_t>(here * S));
    for (int64_t s = 0; s < here; ++s) {
      const std::span<int32_t> sample(tokens.data() + s * (S + 1), static_cast<size_t>(S + 1));
      JEVONS_RETURN_IF_ERROR(validation.Read(validation.SpreadSample(first + s, samples), sample, {starts.data() + s * S, starts.empty() ? 0 : static_cast<size_t>(S)}));
      std::copy(sample.begin() + 1, sample.end(), next.begin() + s * S);
    }
    labels += here * S - std::count(next.begin(), next.end(), kPaddingToken);
    // A padded position reads some token; its label is ignored, and later rows of the sequence are padding too.
    std::replace(tokens.begin(), tokens.end(), kPaddingToken, 0);
    batch_.Upload(tokens, starts, S);
    ArenaScope scope(scratch_);
    const Tensor label_rows = ctx.TempAs("labels", DType::kI32, {here, S});
    CopyBytes(ctx.ops.stream, next.data(), label_rows.data, label_rows.bytes());
    const double loss = EvaluateNow(ctx, binding_->weights(), batch_.At(0, here), label_rows);
    if (exists) losses.push_back({.main = loss});
    if (exists && progress) progress(std::min(first + here, samples), samples);
    if (exists && !std::isfinite(loss) && bad == kNowhere) bad = first;
  }
  mesh_.dp().AllReduceSum({&labels, 1});
  const LossSums sums = SumLosses(losses, block, count);
  if (found != nullptr) {
    const std::string seen = found->tensor ? absl::StrFormat("layer %d: %s", found->layer, found->tensor) : "the output head";
    const auto of_set = [&](int64_t i) { return validation.SpreadSample(std::min(i, samples - 1), samples); };
    const std::string which = micro > 1 ? absl::StrFormat("sequences %d to %d", of_set(bad), of_set(bad + micro - 1))
                                        : absl::StrFormat("sequence %d", of_set(bad));
    return NumericalError(WordsOfLowest(bad, absl::StrFormat("%s: NaN or Inf, first seen in %s", which, seen)));
  }
  return Evaluation{.loss = labels > 0 ? sums.main / static_cast<double>(labels) : 0, .tokens = labels};
}

std::vector<StateSlice> TrainStep::State() const {
  std::vector<StateSlice> state = optimizer_->State();
  for (size_t i = 0; i < weights_->bias_names().size(); ++i) {
    const Tensor& bias = weights_->bias(i);
    // Everybody has the same biases; the first rank writes them.
    state.push_back({"gate_bias/" + weights_->bias_names()[i], bias.shape,
                     {0, mesh_.world().rank() == 0 ? bias.size() : 0}, bias});
  }
  return state;
}

MemoryUse TrainStep::memory() const {
  return {.weights = weights_->bytes() + binding_->bytes(),
          .gradients = gradients_->bytes(),
          .optimizer = optimizer_->bytes(),
          .activations = saved_.peak_bytes() + scratch_.peak_bytes()};
}

MemoryLedger TrainStep::memory_ledger() const {
  MemoryLedger ledger;
  for (const StateSlice& slice : optimizer_->State()) (slice.name.front() == 'w' ? ledger.masters : ledger.moments) += slice.data.bytes();
  ledger.saved = saved_.PeakSlices();
  ledger.temporary = scratch_.PeakSlices();
  return ledger;
}

}  // namespace jevons
