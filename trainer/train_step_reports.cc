// What a step tells beside its update: of NaN, of FP8 against the compute type, of what was lost and sent.
#include <bit>
#include <cmath>
#include <span>

#include "absl/strings/str_format.h"
#include "kernels/ops/reduce.h"
#include "trainer/train_step.h"

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
  const int64_t micro = config_.train().micro_batch_sequences(), count = plan.sequences / micro;
  const Range block = Block(count);
  const MicroBatch all = batch_.At(0, block.size() * micro);
  const std::vector<double> losses =
      ForwardLosses(ctx, shadow_binding_->weights(), LegalMicroBatches(Rounds(mesh_.shape(), count)), block.size(), all.tokens.Columns(1, all.sequence_length));
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

Dispatcher::Bytes TrainStep::SumExchanged(const Dispatcher::Bytes& before) {
  const Dispatcher::Bytes& now = dispatcher_.bytes_sent();
  int64_t bytes[] = {now.dispatch - before.dispatch, now.combine - before.combine};
  mesh_.world().AllReduceSum(bytes);
  return {.dispatch = bytes[0], .combine = bytes[1]};
}

}  // namespace jevons
