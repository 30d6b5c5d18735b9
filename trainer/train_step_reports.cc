// What a step tells beside its update: of NaN, of FP8 against the compute type, of what was lost and sent.
#include <bit>
#include <cmath>
#include <span>

#include "absl/strings/str_format.h"
#include "trainer/train_step.h"

namespace jevons {

// The words of the data-parallel rank with the lowest index, on every rank; none of them has any where all indices are kNowhere.
std::string TrainStep::WordsOfLowest(int64_t index, const std::string& words) {
  int64_t least = -index;
  mesh_.dp().AllReduceMax({&least, 1});
  if (least == -kNowhere) return "";
  int64_t teller = index == -least ? mesh_.rank().dp : -1;
  mesh_.dp().AllReduceMax({&teller, 1});
  char text[160] = {};
  if (teller == mesh_.rank().dp) absl::SNPrintF(text, sizeof text, "%s", words);
  mesh_.dp().Broadcast(std::as_writable_bytes(std::span(text)), static_cast<int>(teller));
  return text;
}

// Where a step met NaN or Inf first: its forward passes again, this time looking at every norm. The earliest micro-batch that met
// a non-finite row tells.
std::string TrainStep::FindNonFinite(Range block, int64_t rounds) {
  NonFinite found;
  LayerContext ctx = Context();
  ctx.non_finite = &found;
  ctx.fp8 = nullptr;
  int64_t mine = kNowhere;
  for (int64_t round = 0; round < rounds; ++round) {
    const MicroBatch batch = MicroBatchAt(round, round < block.size());
    ArenaScope scope(scratch_);
    std::vector<Tensor> hidden;
    for (int64_t k = 0; k <= config_.model().mtp().depth(); ++k)
      hidden.push_back(ctx.Temp("hidden", {batch.sequences * (batch.sequence_length - k), config_.model().hidden_size()}));
    model_->Hidden(ctx, binding_->weights(), batch, hidden);
    if (found.tensor && mine == kNowhere) mine = block.begin + round;
  }
  const std::string place =
      found.tensor ? absl::StrFormat("micro-batch %d, layer %d: %s", mine, found.layer, found.tensor) : std::string();
  const std::string told = WordsOfLowest(mine, place);
  return told.empty() ? "the output head" : told;
}

absl::Status TrainStep::CheckLosses(const StepPlan& plan, const LossSums& sums, Range block, int64_t rounds) {
  if (std::isfinite(sums.main) && std::isfinite(sums.mtp) && std::isfinite(sums.balance)) return absl::OkStatus();
  return NumericalError(absl::StrFormat(
      "step %d: the loss is NaN or Inf (main %g, MTP %g, balance %g); first seen in %s. The step was not applied. "
      "Lower optimizer.learning_rate.peak, or look at samples %d to %d",
      plan.step, sums.main, sums.mtp, sums.balance, FindNonFinite(block, rounds), plan.first_sample,
      plan.first_sample + plan.sequences - 1));
}

bool TrainStep::ShadowDue(int64_t step) const {
  const int64_t interval = config_.precision().shadow_interval();
  return interval > 0 && (step + 1) % interval == 0;
}

// The sum over the batch of the main model's losses, in the compute type.
double TrainStep::ShadowLoss(const StepPlan& plan) {
  LayerContext ctx = Context();
  ctx.fp8 = nullptr;
  const GradientLayout layout = Layout();
  const int64_t count = plan.sequences / config_.train().micro_batch_sequences();
  const Range block = layout.Block(count, layout.self);
  std::vector<LossSums> losses;
  for (int64_t round = 0; round < layout.Rounds(count); ++round) {
    const bool exists = round < block.size();
    const MicroBatch micro = MicroBatchAt(round, exists);
    const double loss = EvaluateNow(ctx, shadow_binding_->weights(), micro, micro.tokens.Columns(1, micro.sequence_length));
    if (exists) losses.push_back({.main = loss});
  }
  return SumLosses(losses, block, count).main;
}

std::vector<std::array<double, 3>> TrainStep::SumShadowErrors() {
  // Each rank has its own slots; the others add the integer 0 to their bits.
  const size_t per_rank = shadow_.layers.size() * kVerbNames.size() * 2, ranks = static_cast<size_t>(mesh_.shape().dp());
  std::vector<int64_t> bits(per_rank * ranks, 0);
  int64_t* mine = bits.data() + per_rank * static_cast<size_t>(mesh_.rank().dp);
  for (const Shadow::Layer& layer : shadow_.layers)
    for (const ProductError& error : layer)
      for (const double sum : {error.difference, error.reference}) *mine++ = std::bit_cast<int64_t>(sum);
  mesh_.dp().AllReduceSum(bits);
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
  mesh_.dp().AllReduceSum(counts);
  const auto at = [&](size_t i) { return QuantStats{counts[i], counts[i + 1], counts[i + 2], counts[i + 3]}; };
  return {.activations = at(0), .gradients = at(4), .weights = at(8), .cached = at(12)};
}

Dispatcher::Bytes TrainStep::SumExchanged(const Dispatcher::Bytes& before) {
  const Dispatcher::Bytes& now = dispatcher_.bytes_sent();
  int64_t bytes[] = {now.dispatch - before.dispatch, now.combine - before.combine};
  mesh_.dp().AllReduceSum(bytes);
  return {.dispatch = bytes[0], .combine = bytes[1]};
}

}  // namespace jevons
