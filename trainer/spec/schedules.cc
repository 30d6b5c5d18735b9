#include "trainer/spec/schedules.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/base/check.h"

namespace jevons {
namespace {

constexpr double kGamma = 0.001;  // TR 4.2, as is the next
constexpr double kMtpWeight = 0.3;
constexpr int64_t kMostSteps = 10'000'000'000;  // that train.steps may say

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
    const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * done));  // exactly 0 at done = 1
    rate = config.final() + (config.peak() - config.final()) * cosine;
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
    : config_(config), steps_(config.train().has_steps() ? config.train().steps() : kMostSteps) {
  const TrainConfig& train = config_.train();
  const int64_t length = config_.data().sequence_length();
  const auto size_at = [&](int64_t sample) {
    return BatchSequences(train, static_cast<double>(sample) * static_cast<double>(length));
  };
  Stretch stretch{0, 0, size_at(0)};
  stretches_.push_back(stretch);
  while (stretch.sequences < train.batch_sequences() && stretch.step < steps_) {
    // How many steps keep this size? The size never shrinks, so double until it has grown, then halve the
    // interval.
    const auto grown = [&](int64_t steps) {
      return size_at(stretch.first_sample + steps * stretch.sequences) > stretch.sequences;
    };
    int64_t same = 0, other = 1;  // after `same` steps it is the same, after `other` it is not
    while (!grown(other) && stretch.step + other < steps_) same = std::exchange(other, 2 * other);
    while (other - same > 1) {
      const int64_t middle = same + (other - same) / 2;
      (grown(middle) ? other : same) = middle;
    }
    stretch.step += other;
    stretch.first_sample += other * stretch.sequences;
    stretch.sequences = size_at(stretch.first_sample);
    stretches_.push_back(stretch);
  }
  if (train.tokens() == 0 || At(steps_).tokens_before < train.tokens()) return;
  int64_t few = 0;  // steps that do not suffice; steps_ do
  while (steps_ - few > 1) {
    const int64_t middle = few + (steps_ - few) / 2;
    (At(middle).tokens_before < train.tokens() ? few : steps_) = middle;
  }
}

StepPlan RunSchedule::At(int64_t step) const {
  JEVONS_CHECK(step >= 0, "step %lld", static_cast<long long>(step));
  const auto after = std::upper_bound(stretches_.begin(), stretches_.end(), step,
                                      [](int64_t s, const Stretch& stretch) { return s < stretch.step; });
  const Stretch& stretch = *std::prev(after);
  StepPlan plan;
  plan.step = step;
  plan.first_sample = stretch.first_sample + (step - stretch.step) * stretch.sequences;
  plan.sequences = stretch.sequences;
  plan.tokens_before = static_cast<double>(plan.first_sample) * static_cast<double>(config_.data().sequence_length());
  plan.learning_rate = LearningRate(config_.optimizer().learning_rate(), step, plan.tokens_before);
  plan.gamma = GammaAt(config_.balance(), plan.tokens_before);
  plan.mtp_weight = MtpWeightAt(config_.balance(), plan.tokens_before);
  return plan;
}

}  // namespace jevons
