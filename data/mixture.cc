#include "data/mixture.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "data/keys.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr double kSmallestShare = 1e-12;

absl::Status CheckWeights(std::span<const double> weights) {
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!std::isfinite(weights[i]) || weights[i] < 0) {
      return UsageError(absl::StrFormat("datasets[%d].weight is %g; it must be finite and not negative", i, weights[i]));
    }
    sum += weights[i];
  }
  if (!(sum > 0) || !std::isfinite(sum)) {
    return UsageError(
        absl::StrFormat("the weights of the %d datasets add up to %g; give at least one dataset a "
                        "positive weight, in any unit that does not overflow",
                        weights.size(), sum));
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0 || weights[i] >= kSmallestShare * sum) continue;
    return UsageError(
        absl::StrFormat("datasets[%d].weight is %g, less than %g of the sum %g: it would never be drawn; "
                        "set it to 0 or raise it",
                        i, weights[i], kSmallestShare, sum));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Mixture> Mixture::Create(std::span<const double> weights, uint64_t seed) {
  JEVONS_RETURN_IF_ERROR(CheckWeights(weights));
  Mixture mixture;
  mixture.datasets_ = static_cast<int64_t>(weights.size());
  std::vector<size_t> by_weight;  // the datasets that are drawn, lightest first
  for (size_t i = weights.size(); i-- > 0;) {
    if (weights[i] > 0) by_weight.push_back(i);
  }
  const auto lighter = [&](size_t a, size_t b) { return weights[a] < weights[b]; };
  std::stable_sort(by_weight.begin(), by_weight.end(), lighter);
  mixture.last_ = static_cast<int64_t>(by_weight.front());
  double rest = weights[by_weight.front()];
  for (const size_t i : std::span(by_weight).subspan(1)) {
    rest += weights[i];
    const auto share = static_cast<uint64_t>(std::ldexp(weights[i] / rest, 64));
    const uint64_t phase = DeriveKey(seed, KeyPurpose::kMixturePhase, i);
    mixture.stages_.push_back({static_cast<int64_t>(i), share, phase});
  }
  std::reverse(mixture.stages_.begin(), mixture.stages_.end());
  return mixture;
}

int64_t Mixture::Stage::Count(int64_t n) const {
  return static_cast<int64_t>((static_cast<unsigned __int128>(n) * share + phase) >> 64);
}

Mixture::Place Mixture::At(int64_t n) const {
  for (const Stage& stage : stages_) {
    const int64_t count = stage.Count(n);
    if (stage.Count(n + 1) > count) return {stage.dataset, count};
    n -= count;
  }
  return {last_, n};
}

std::vector<int64_t> Mixture::Counts(int64_t n) const {
  std::vector<int64_t> counts(static_cast<size_t>(datasets_), 0);
  for (const Stage& stage : stages_) {
    const int64_t count = stage.Count(n);
    counts[static_cast<size_t>(stage.dataset)] = count;
    n -= count;
  }
  counts[static_cast<size_t>(last_)] = n;
  return counts;
}

}  // namespace jevons
