#include "trainer/spec/schedules.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/str_format.h"
#include "configs/stages.h"
#include "kernels/base/check.h"

namespace jevons {
namespace {

constexpr double kGamma = 0.001;  // TR 4.2, as is the next
constexpr double kMtpWeight = 0.3;
constexpr int64_t kMostSteps = 10'000'000'000;  // that train.steps may say

// More than any run makes, and all their tokens can be counted.
int64_t MostSteps(const std::vector<RunConfig>& stages) {
  constexpr double kMostTokens = 4e18;
  double steps = kMostSteps;
  for (const RunConfig& stage : stages)
    steps = std::min(steps, kMostTokens / static_cast<double>(stage.train().batch_sequences()) /
                                static_cast<double>(stage.data().sequence_length()));
  return static_cast<int64_t>(steps);
}

// What is left of a decay of which this share is done: from 1 to exactly 0.
double Left(DecayShape shape, double done) {
  switch (shape) {
    case LINEAR: return 1 - done;
    case ONE_MINUS_SQRT: return 1 - std::sqrt(done);
    case COSINE: break;
  }
  return 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace

double StageValue(const google::protobuf::RepeatedPtrField<TokenStep>& stages, double before, double tokens) {
  double value = before;
  for (const TokenStep& stage : stages) {
    if (stage.tokens() <= tokens) value = stage.value();
  }
  return value;
}

double LearningRate(const LearningRateConfig& config, int64_t step, double tokens) {
  double rate = config.peak();
  if (config.decay_tokens() > 0 && tokens > config.constant_tokens()) {
    const double done = std::min(1.0, (tokens - config.constant_tokens()) / config.decay_tokens());
    rate = config.final() + (config.peak() - config.final()) * Left(config.decay_shape(), done);
  }
  rate = StageValue(config.tail(), rate, tokens);
  const bool warming = step + 1 < config.warmup_steps();
  return warming ? rate * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps()) : rate;
}

double GammaAt(const BalanceConfig& config, double tokens) { return StageValue(config.bias_speed(), kGamma, tokens); }

double MtpWeightAt(const BalanceConfig& config, double tokens) { return StageValue(config.mtp_weight(), kMtpWeight, tokens); }

int64_t BatchSequences(const TrainConfig& config, double tokens) {
  const int64_t full = config.batch_sequences(), micro = config.micro_batch_sequences();
  if (config.batch_ramp_start() == 0 || tokens >= config.batch_ramp_tokens()) return full;
  const double start = static_cast<double>(config.batch_ramp_start());
  const double size = start + (static_cast<double>(full) - start) * (tokens / config.batch_ramp_tokens());
  return std::clamp<int64_t>(std::llround(size / static_cast<double>(micro)) * micro, micro, full);
}

RunSchedule::RunSchedule(const RunConfig& config)
    : config_(config),
      configs_(StageConfigs(config)),
      steps_(config.train().has_steps() ? config.train().steps() : MostSteps(configs_)) {
  Stretch begin{.step = 0, .first_sample = 0, .first_token = 0, .sequences = 0, .stage = 0};
  for (const StageConfig& next : config_.train().stage()) {
    // No step has less than one token.
    const auto more_tokens =
        static_cast<int64_t>(std::ceil(std::max(0.0, next.from_tokens() - static_cast<double>(begin.first_token))));
    AddStage(begin, std::max(steps(), next.has_from_step() ? next.from_step() : begin.step + more_tokens));
    int64_t first = next.from_step();
    if (!next.has_from_step()) {
      const auto before = [&](const Stretch& stretch) { return static_cast<double>(stretch.first_token) < next.from_tokens(); };
      const auto reaches = std::find_if_not(stretches_.begin(), stretches_.end(), before);
      const Stretch& last = *std::prev(reaches);
      const double tokens = next.from_tokens() - static_cast<double>(last.first_token);
      first = last.step + static_cast<int64_t>(std::ceil(tokens / static_cast<double>(StepTokens(last))));
    }
    const int stage = begin.stage + 1;
    begin = PlaceOf(std::max(first, begin.step));
    begin.stage = stage;
    while (!stretches_.empty() && stretches_.back().step >= begin.step) stretches_.pop_back();
  }
  AddStage(begin, steps());
  EndByTokens();
  AddRates();
}

void RunSchedule::EndByTokens() {
  const double enough = config_.train().tokens();
  if (enough == 0 || total_tokens() < enough) return;
  int64_t few = 0;  // steps that do not suffice; steps_ do
  while (steps_ - few > 1) {
    const int64_t middle = few + (steps_ - few) / 2;
    (static_cast<double>(PlaceOf(middle).first_token) < enough ? few : steps_) = middle;
  }
}

// Stretches of a stage, up to the one that holds the step `limit`.
void RunSchedule::AddStage(const Stretch& begin, int64_t limit) {
  const TrainConfig& train = stage(begin.stage).train();
  const auto size_at = [&](int64_t token) { return BatchSequences(train, static_cast<double>(token)); };
  Stretch stretch = begin;
  stretch.sequences = size_at(stretch.first_token);
  stretches_.push_back(stretch);
  while (stretch.sequences < train.batch_sequences() && stretch.step < limit) {
    // How many steps keep this size? The size never shrinks, so double until it has grown, then halve the
    // interval.
    const auto grown = [&](int64_t steps) {
      return size_at(stretch.first_token + steps * StepTokens(stretch)) > stretch.sequences;
    };
    int64_t same = 0, other = 1;  // after `same` steps it is the same, after `other` it is not
    while (!grown(other) && stretch.step + other < limit) same = std::exchange(other, 2 * other);
    while (other - same > 1) {
      const int64_t middle = same + (other - same) / 2;
      (grown(middle) ? other : same) = middle;
    }
    stretch = PlaceOf(stretch.step + other);
    stretch.sequences = size_at(stretch.first_token);
    stretches_.push_back(stretch);
  }
}

std::vector<int64_t> RunSchedule::StageSteps() const {
  std::vector<int64_t> steps;
  for (size_t i = 0; i < stretches_.size(); ++i)
    if (i == 0 || stretches_[i].stage != stretches_[i - 1].stage) steps.push_back(stretches_[i].step);
  return steps;
}

void RunSchedule::AddRates() {
  rates_.push_back({.config = config_.optimizer().learning_rate(), .step = 0, .token = 0, .stage = 0});
  for (int i = 1; i <= config_.train().stage_size(); ++i) {
    if (!config_.train().stage(i - 1).has_learning_rate()) continue;
    const auto first = std::find_if(stretches_.begin(), stretches_.end(), [&](const Stretch& s) { return s.stage >= i; });
    while (!rates_.empty() && rates_.back().step >= first->step) rates_.pop_back();
    rates_.push_back(
        {.config = stage(i).optimizer().learning_rate(), .step = first->step, .token = first->first_token, .stage = i});
  }
  for (size_t i = 0; i < rates_.size(); ++i) {
    LearningRateConfig& rate = rates_[i].config;
    if (rate.decay_fraction() == 0) continue;
    const auto tokens = static_cast<double>(EndOf(i) - rates_[i].token);
    rate.set_decay_tokens(rate.decay_fraction() * tokens);
    rate.set_constant_tokens(tokens - rate.decay_tokens());
  }
}

int64_t RunSchedule::EndOf(size_t rate) const {
  return std::max(rates_[rate].token, rate + 1 < rates_.size() ? rates_[rate + 1].token : PlaceOf(steps()).first_token);
}

absl::Status RunSchedule::CheckStages() const {
  const auto& stages = config_.train().stage();
  const auto begin_of = [&](int i) {
    const StageConfig& stage = stages[i];
    return stage.has_from_step() ? absl::StrFormat("train.stage[%d].from_step = %d", i, stage.from_step())
                                 : absl::StrFormat("train.stage[%d].from_tokens = %.15g", i, stage.from_tokens());
  };
  for (int i = 0; i < stages.size(); ++i) {
    const auto first = std::find_if(stretches_.begin(), stretches_.end(), [&](const Stretch& s) { return s.stage > i; });
    if (first->stage > i + 1)
      return UsageError(
          absl::StrFormat("%s: it has no step, for train.stage[%d] begins at step %d; give the stages in the order of "
                          "their first steps",
                          begin_of(i), first->stage - 1, first->step));
    if (first->step >= steps())
      return UsageError(
          absl::StrFormat("%s: the run ends before it, after %d steps and %.15g tokens; let it begin earlier, or "
                          "the run be longer",
                          begin_of(i), steps(), total_tokens()));
  }
  for (size_t i = 0; i < rates_.size(); ++i) {
    const Rate& rate = rates_[i];
    const bool by_rate = i + 1 < rates_.size();
    if (rate.config.decay_fraction() > 0 || rate.config.decay_tokens() == 0) continue;  // which takes what there is
    if (rate.stage == 0 && !by_rate)
      continue;  // a run without stages may be shorter than its decay: it is a part of a longer one
    const auto tokens = static_cast<double>(EndOf(i) - rate.token);
    if (rate.config.constant_tokens() + rate.config.decay_tokens() <= tokens) continue;
    return UsageError(absl::StrFormat(
        "%s.decay_tokens = %.15g: after constant_tokens = %.15g it takes longer than the %.15g tokens until %s; make it shorter, "
        "or say decay_fraction",
        rate.stage == 0 ? "optimizer.learning_rate" : absl::StrFormat("train.stage[%d].learning_rate", rate.stage - 1),
        rate.config.decay_tokens(), rate.config.constant_tokens(), tokens,
        by_rate ? absl::StrFormat("the learning rate of train.stage[%d]", rates_[i + 1].stage - 1) : "the end of the run"));
  }
  return absl::OkStatus();
}

const RunSchedule::Stretch& RunSchedule::StretchOf(int64_t step) const {
  const auto after = std::upper_bound(stretches_.begin(), stretches_.end(), step,
                                      [](int64_t s, const Stretch& stretch) { return s < stretch.step; });
  return *std::prev(after);
}

RunSchedule::Stretch RunSchedule::PlaceOf(int64_t step) const {
  Stretch place = StretchOf(step);
  const int64_t steps = step - place.step;
  place.first_sample += steps * place.sequences;
  place.first_token += steps * StepTokens(place);
  place.step = step;
  return place;
}

const RunSchedule::Rate& RunSchedule::RateOf(int64_t step) const {
  const auto after =
      std::upper_bound(rates_.begin(), rates_.end(), step, [](int64_t s, const Rate& rate) { return s < rate.step; });
  return *std::prev(after);
}

bool RunSchedule::Decays(int64_t step) const {
  const Rate& rate = RateOf(step);
  const double done = static_cast<double>(PlaceOf(step).first_token - rate.token) - rate.config.constant_tokens();
  return rate.config.constant_tokens() > 0 && done > 0 && done < rate.config.decay_tokens();
}

bool RunSchedule::KeepsAfter(int64_t steps) const {
  return steps > 0 && (StageOf(steps) != StageOf(steps - 1) || Decays(steps) != Decays(steps - 1));
}

std::vector<StreamStage> RunSchedule::StreamStages() const {
  std::vector<StreamStage> changes;
  const RunConfig* before = &stage(StageOf(0));
  for (const Stretch& stretch : stretches_) {
    const RunConfig& now = stage(stretch.stage);
    const auto same_weight = [](const DatasetConfig& a, const DatasetConfig& b) { return a.weight() == b.weight(); };
    const auto &a = before->data().mixture(), &b = now.data().mixture();
    if (before->data().sequence_length() == now.data().sequence_length() &&
        std::equal(a.begin(), a.end(), b.begin(), b.end(), same_weight))
      continue;
    changes.push_back({.stage = stretch.stage, .first_sample = stretch.first_sample});
    before = &now;
  }
  return changes;
}

StepPlan RunSchedule::At(int64_t step) const {
  JEVONS_CHECK(step >= 0, "step %lld", static_cast<long long>(step));
  const Stretch place = PlaceOf(step);
  const Rate& rate = RateOf(step);
  StepPlan plan;
  plan.step = step;
  plan.first_sample = place.first_sample;
  plan.sequences = place.sequences;
  plan.tokens_before = static_cast<double>(place.first_token);
  plan.learning_rate = LearningRate(rate.config, step - rate.step, static_cast<double>(place.first_token - rate.token));
  plan.gamma = GammaAt(config_.balance(), plan.tokens_before);
  plan.mtp_weight = MtpWeightAt(config_.balance(), plan.tokens_before);
  plan.stage = place.stage;
  plan.tokens = StepTokens(place);
  return plan;
}

}  // namespace jevons
