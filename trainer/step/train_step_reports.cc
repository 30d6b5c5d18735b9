// What a step tells beside its update: of NaN, of FP8 against the compute type, of what was lost and sent, and of memory.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <span>

#include "absl/strings/str_format.h"
#include "kernels/ops/reduce.h"
#include "trainer/step/train_step.h"

namespace jevons {

// The words of the rank with the lowest index, on every rank; none of them has any where all indices are kNowhere.
std::string TrainStep::WordsOfLowest(int64_t index, const std::string& words) {
  int64_t least = -index;
  mesh_.world().AllReduceMax({&least, 1});
  if (least == -kNowhere) return "";
  int64_t teller = index == -least ? mesh_.world().rank() : -1;
  mesh_.world().AllReduceMax({&teller, 1});
  char text[160] = {};
  if (teller == mesh_.world().rank()) absl::SNPrintF(text, sizeof text, "%s", words);
  mesh_.world().Broadcast(std::as_writable_bytes(std::span(text)), static_cast<int>(teller));
  return text;
}

// Where a step met NaN or Inf first: its forward passes again, this time looking at every norm. The earliest micro-batch that met
// a non-finite row tells, and of its stages the first.
std::string TrainStep::FindNonFinite(Range block, int64_t rounds) {
  NonFinite looked;
  LayerContext ctx = Context();
  ctx.non_finite = &looked;
  ctx.fp8 = nullptr;
  RunStages({.ctx = ctx,
             .weights = &binding_->weights(),
             .batch = [&](int i) { return MicroBatchAt(i, i < block.size()); },
             .forward_only = true},
            rounds);
  int64_t mine = kNowhere;
  std::string place;
  const int64_t layers = config_.model().layers() + config_.model().mtp().depth() + 1;
  for (const auto& stage : stages_) {
    if (stage == nullptr || stage->non_finite().tensor == nullptr) continue;
    const NonFinite& found = stage->non_finite();
    const int64_t micro_batch = block.begin + found.micro_batch, index = micro_batch * layers + found.layer;
    if (index >= mine) continue;
    mine = index;
    place = absl::StrFormat("micro-batch %d, layer %d: %s", micro_batch, found.layer, found.tensor);
  }
  const std::string told = WordsOfLowest(mine, place);
  return told.empty() ? "the output head" : told;
}

std::string TrainStep::NonFiniteLoss(const LossSums& sums, Range block, int64_t rounds) {
  if (std::isfinite(sums.main) && std::isfinite(sums.mtp) && std::isfinite(sums.balance)) return "";
  return absl::StrFormat("the loss is NaN or Inf (main %g, MTP %g, balance %g); first seen in %s", sums.main, sums.mtp,
                         sums.balance, FindNonFinite(block, rounds));
}

absl::Status NotApplied(const StepPlan& plan, const std::string& why) {
  return NumericalError(
      absl::StrFormat("step %d: %s. The step was not applied. Lower optimizer.learning_rate.peak, or look at samples %d to %d: "
                      "`jevons replay RUN --step %d`",
                      plan.step + 1, why, plan.first_sample, plan.first_sample + plan.sequences - 1, plan.step + 1));
}

std::vector<ParameterGradient> TrainStep::ParameterGradients(const StepResult& result) {
  return optimizer_->ParameterGradients(Context().ops, *gradients_, result.gradient.scale);
}

uint64_t TrainStep::GradientHash() { return optimizer_->GradientHash(Context().ops); }

namespace {

// What to take from this rank's steady clock to get that of rank 0: hosts count from different moments. Barriers let ranks go at nearly
// the same time; the median of some leaves out those that the system held up.
double ClockOffset(Communicator& world) {
  constexpr size_t kBarriers = 9;
  std::vector<double> offsets;
  for (size_t i = 0; i < kBarriers; ++i) {
    world.Barrier();
    const double now = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    std::vector<double> all(static_cast<size_t>(world.size()));
    world.AllGather(std::as_bytes(std::span(&now, 1)), std::as_writable_bytes(std::span(all)));
    offsets.push_back(now - all.front());
  }
  std::nth_element(offsets.begin(), offsets.begin() + kBarriers / 2, offsets.end());
  return offsets[kBarriers / 2];
}

}  // namespace

MeasuredStep TrainStep::MeasureLastStep() {
  if (recorded_ == nullptr) return {};
  Communicator& world = mesh_.world();
  std::vector<RanAction> mine = recorder_.actions, all;
  // What G has begun ran beside the actions.
  auto span = optimizer_->reduction().spans().cbegin();
  const std::vector<Action>& actions = recorded_->schedule().actions[static_cast<size_t>(mesh_.rank().pp)];
  for (size_t i = 0; i < actions.size(); ++i) {
    if (actions[i].first().kind != TaskKind::kReduce) continue;
    mine[i] = {.begin = span->begin, .end = span->end, .waited = 0};
    ++span;
  }
  const double offset = ClockOffset(world);
  for (RanAction& action : mine) {
    action.begin -= offset;
    action.end -= offset;
  }
  const bool root = world.rank() == 0;
  MeasuredStep step{.schedule = recorded_->schedule(), .ranks = {}};
  std::vector<int64_t> sent(static_cast<size_t>(world.size()), 0), received(sent);
  sent[0] = static_cast<int64_t>(mine.size() * sizeof(RanAction));
  for (int r = 0; root && r < world.size(); ++r) {
    const int pp_rank = RankOf(mesh_.shape(), r).pp;
    const size_t count = step.schedule.actions[static_cast<size_t>(pp_rank)].size();
    received[static_cast<size_t>(r)] = static_cast<int64_t>(count * sizeof(RanAction));
    step.ranks.push_back({.pp_rank = pp_rank, .actions = std::vector<RanAction>(count)});
    all.resize(all.size() + count);
  }
  world.AllToAllV(std::as_bytes(std::span(mine)), sent, std::as_writable_bytes(std::span(all)), received);
  auto next = all.cbegin();
  for (MeasuredRank& rank : step.ranks) {
    std::copy_n(next, rank.actions.size(), rank.actions.begin());
    next += static_cast<std::ptrdiff_t>(rank.actions.size());
  }
  return step;
}

bool TrainStep::ShadowDue(int64_t step) const {
  const int64_t interval = config_.precision().shadow_interval();
  return interval > 0 && (step + 1) % interval == 0;
}

// The sum over the batch of the main model's losses, in the compute type.
double TrainStep::ShadowLoss(const StepPlan& plan) {
  LayerContext ctx = Context();
  ctx.fp8 = nullptr;
  const int64_t micro = config_.train().micro_batch_sequences(), count = plan.sequences / micro;
  const Range block = Block(count);
  const MicroBatch all = batch_.At(0, block.size() * micro);
  const std::vector<double> losses =
      ForwardLosses(ctx, shadow_binding_->weights(), LegalMicroBatches(Rounds(mesh_.shape(), count)), block.size(),
                    all.tokens.Columns(1, all.sequence_length));
  return TreeSum(GatherLosses(losses, 1, block, count));
}

std::vector<std::array<double, 3>> TrainStep::SumShadowErrors() {
  // Each rank has its own slots; the others add the integer 0 to their bits.
  const size_t per_rank = shadow_.layers.size() * kVerbNames.size() * 2, ranks = static_cast<size_t>(mesh_.world().size());
  std::vector<int64_t> bits(per_rank * ranks, 0);
  int64_t* mine = bits.data() + per_rank * static_cast<size_t>(mesh_.world().rank());
  for (const Shadow::Layer& layer : shadow_.layers)
    for (const ProductError& error : layer)
      for (const double sum : {error.difference, error.reference}) *mine++ = std::bit_cast<int64_t>(sum);
  mesh_.world().AllReduceSum(bits);
  std::vector<std::array<double, 3>> errors(shadow_.layers.size());
  for (size_t i = 0; i < errors.size() * kVerbNames.size(); ++i) {
    ProductError error;
    for (size_t rank = 0; rank < ranks; ++rank) {
      error.difference += std::bit_cast<double>(bits[rank * per_rank + 2 * i]);
      error.reference += std::bit_cast<double>(bits[rank * per_rank + 2 * i + 1]);
    }
    errors[i / kVerbNames.size()][i % kVerbNames.size()] = error.relative();
  }
  return errors;
}

Fp8Stats TrainStep::SumFp8Stats() {
  std::vector<int64_t> counts;
  const Fp8Stats& lost = totals_->lost();
  for (const QuantStats* stats : {&lost.activations, &lost.gradients, &lost.weights, &lost.cached})
    for (const int64_t count : {stats->elements, stats->saturated, stats->underflowed, stats->nonfinite}) counts.push_back(count);
  mesh_.world().AllReduceSum(counts);
  const auto at = [&](size_t i) { return QuantStats{counts[i], counts[i + 1], counts[i + 2], counts[i + 3]}; };
  return {.activations = at(0), .gradients = at(4), .weights = at(8), .cached = at(12)};
}

Traffic TrainStep::SumTraffic(Traffic before) {
  Traffic sum = dispatcher_.traffic();
  std::vector<int64_t> numbers;
  const auto earlier = before.Numbers();
  for (size_t i = 0; i < earlier.size(); ++i) numbers.push_back(*sum.Numbers()[i] - *earlier[i]);
  mesh_.world().AllReduceSum(numbers);
  for (size_t i = 0; i < earlier.size(); ++i) *sum.Numbers()[i] = numbers[i];
  return sum;
}

double TrainStep::peak_load() const {
  double peak = earlier_peak_load_;
  for (const auto& stage : stages_)
    if (stage != nullptr) peak = std::max(peak, stage->peak_load());
  return peak;
}

MemoryUse TrainStep::memory() const {
  return {.weights = weights_->bytes() + binding_->bytes(),
          .gradients = gradients_->bytes(),
          .optimizer = optimizer_->bytes(),
          .activations = pool_.peak_bytes() + scratch_.peak_bytes() + optimizer_->reduction().scratch().peak_bytes(),
          .host = optimizer_->host_bytes()};
}

MemoryLedger TrainStep::memory_ledger() const {
  MemoryLedger ledger;
  for (const StateSlice& slice : optimizer_->State()) {
    if (slice.name.front() == 'w') ledger.masters += slice.data.bytes();
    if (slice.name.front() == 'm' || slice.name.front() == 'v') ledger.moments += slice.data.bytes();
  }
  ledger.saved = pool_.SlicesOf({MicroPool::kUntilB, MicroPool::kUntilW, MicroPool::kMessage});
  ledger.stash = pool_.SlicesOf({MicroPool::kStash});
  ledger.holes = pool_.HoleBytes();
  ledger.temporary = pool_.TemporarySlices({&scratch_, &optimizer_->reduction().scratch()});
  return ledger;
}

}  // namespace jevons
