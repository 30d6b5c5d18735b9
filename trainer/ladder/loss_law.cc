#include "trainer/ladder/loss_law.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/philox.h"
#include "trainer/ladder/law_solver.h"

namespace jevons {
namespace {

constexpr int kDraws = 400;
constexpr double kTail = 0.05;
// Streams of random numbers, each of its own purpose: what one draws never depends on what another has.
constexpr uint64_t kSeed = 1;
enum Stream : uint64_t { kNoiseOfSeeds = 0x1adde0, kNoiseOfLosses, kChoiceOfRungs, kNoiseOfRuns };

// A standard deviation that so few degrees of freedom allow: deviation sqrt(degrees / chi-squared).
double DrawDeviation(const SeedNoise& noise, uint64_t draw) {
  double squares = 0;
  for (int i = 0; i < noise.degrees; ++i) {
    const double z = RandomNormal(kSeed, kNoiseOfSeeds, draw * static_cast<uint64_t>(noise.degrees) + static_cast<uint64_t>(i));
    squares += z * z;
  }
  return noise.deviation * std::sqrt(noise.degrees / squares);
}

void DrawBySeeds(std::span<const LossSample> samples, bool pinned, const SeedNoise& noise, LossFit& fit) {
  fit.resampling = Resampling::kSeeds;
  std::vector<LossSample> drawn(samples.begin(), samples.end());
  for (uint64_t draw = 0; draw < kDraws; ++draw) {
    const double deviation = DrawDeviation(noise, draw);
    for (size_t i = 0; i < samples.size(); ++i)
      drawn[i].loss = samples[i].loss * std::exp(deviation / std::sqrt(samples[i].runs) *
                                                 RandomNormal(kSeed, kNoiseOfLosses, draw * samples.size() + i));
    const auto lowest =
        std::min_element(drawn.begin(), drawn.end(), [](const LossSample& a, const LossSample& b) { return a.loss < b.loss; });
    if (pinned && lowest->loss <= fit.law.asymptote) continue;
    fit.draws.push_back(RefineLossLaw(drawn, pinned, fit.law).law);
    fit.deviations.push_back(deviation);
  }
}

void DrawByRungs(std::span<const LossSample> samples, bool pinned, LossFit& fit) {
  std::vector<LossSample> drawn(samples.size());
  for (uint64_t draw = 0; draw < kDraws; ++draw) {
    for (size_t i = 0; i < samples.size(); ++i)
      drawn[i] = samples[RandomBits(kSeed, kChoiceOfRungs, draw * samples.size() + i) % samples.size()];
    if (CheckSamples(drawn, pinned ? std::optional(fit.law.asymptote) : std::nullopt).ok())
      fit.draws.push_back(RefineLossLaw(drawn, pinned, fit.law).law);
  }
  // Where most draws cannot be fitted, the others say little of how far the law may be off.
  if (fit.draws.size() < kDraws / 2) fit.draws.clear();
  fit.resampling = fit.draws.empty() ? Resampling::kNone : Resampling::kRungs;
}

std::optional<LawInterval> Quantiles(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<size_t>(std::llround(share * static_cast<double>(values.size() - 1)))];
  };
  return LawInterval{.low = at(kTail), .high = at(1 - kTail)};
}

}  // namespace

double LossLaw::At(std::span<const double> x) const {
  JEVONS_CHECK(x.size() == terms.size(), "a law of %zu scales is asked at %zu", terms.size(), x.size());
  double loss = asymptote;
  for (size_t j = 0; j < terms.size(); ++j) loss += terms[j].factor * std::pow(x[j], -terms[j].exponent);
  return loss;
}

std::optional<double> ScaleAt(const LossLaw& law, double loss) {
  JEVONS_CHECK(law.terms.size() == 1, "a law of %zu scales has no one scale", law.terms.size());
  if (!(loss > law.asymptote)) return std::nullopt;
  return std::pow(law.terms[0].factor / (loss - law.asymptote), 1 / law.terms[0].exponent);
}

// The derivative along 6 N D = C is zero where a A N^-a = b B D^-b.
BestSplit BestSplitAt(const LossLaw& law, double compute) {
  JEVONS_CHECK(law.terms.size() == 2, "only a law of parameters and tokens splits compute: this has %zu scales",
               law.terms.size());
  const auto& [A, a] = law.terms[0];
  const auto& [B, b] = law.terms[1];
  BestSplit split;
  split.parameters = std::pow(a * A / (b * B), 1 / (a + b)) * std::pow(compute / 6, b / (a + b));
  split.tokens = compute / 6 / split.parameters;
  split.loss = law.At(std::vector{split.parameters, split.tokens});
  return split;
}

absl::StatusOr<LossFit> FitWithDraws(std::span<const LossSample> samples, std::optional<double> asymptote,
                                     std::optional<SeedNoise> noise) {
  JEVONS_ASSIGN_OR_RETURN(LossLaw law, FitLossLaw(samples, asymptote));
  LossFit fit{.law = std::move(law)};
  if (noise) {
    DrawBySeeds(samples, asymptote.has_value(), *noise, fit);
  } else {
    DrawByRungs(samples, asymptote.has_value(), fit);
  }
  return fit;
}

std::optional<SeedNoise> PooledNoise(std::span<const std::vector<double>> groups) {
  double squares = 0;
  int degrees = 0;
  for (const std::vector<double>& losses : groups) {
    double mean = 0;
    for (const double loss : losses) mean += std::log(loss) / static_cast<double>(losses.size());
    for (const double loss : losses) squares += (std::log(loss) - mean) * (std::log(loss) - mean);
    degrees += std::max(0, static_cast<int>(losses.size()) - 1);
  }
  if (degrees == 0) return std::nullopt;
  return SeedNoise{.deviation = std::sqrt(squares / degrees), .degrees = degrees};
}

std::optional<LawInterval> IntervalOf(const LossFit& fit, const std::function<std::optional<double>(const LossLaw&)>& figure) {
  std::vector<double> values;
  for (const LossLaw& law : fit.draws)
    if (const auto value = figure(law); value && std::isfinite(*value)) values.push_back(*value);
  if (static_cast<double>(values.size()) <= (1 - kTail) * static_cast<double>(fit.draws.size())) return std::nullopt;
  return Quantiles(std::move(values));
}

std::optional<LawInterval> IntervalOfRuns(const LossFit& fit, std::span<const double> x, int runs) {
  std::vector<double> values;
  for (size_t i = 0; i < fit.draws.size(); ++i) {
    const double noise = fit.deviations.empty() ? 0 : fit.deviations[i] / std::sqrt(runs) * RandomNormal(kSeed, kNoiseOfRuns, i);
    values.push_back(fit.draws[i].At(x) * std::exp(noise));
  }
  return Quantiles(std::move(values));
}

std::string LawText(const LossLaw& law, std::span<const char* const> names) {
  std::string text = absl::StrFormat("%.4g", law.asymptote);
  for (size_t j = 0; j < law.terms.size(); ++j)
    absl::StrAppendFormat(&text, " + %.4g %s^%.4g", law.terms[j].factor, names[j], -law.terms[j].exponent);
  return text;
}

}  // namespace jevons
