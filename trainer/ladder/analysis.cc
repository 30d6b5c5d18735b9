#include "trainer/ladder/analysis.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace jevons {
namespace {

// None where the point does not know, as dollars without a price.
std::optional<double> ScaleOf(const LadderPoint& point, LadderAxis axis) {
  switch (axis) {
    case LadderAxis::kFlops: return point.flops;
    case LadderAxis::kSeconds: return point.seconds;
    case LadderAxis::kDollars: return point.dollars.value_or(0) > 0 ? point.dollars : std::nullopt;
  }
  return std::nullopt;
}

bool OnLine(const LadderPoint& point, const std::string& variant) { return point.variant == variant && point.tokens_factor == 1; }

double MostSpent(std::span<const LadderPoint> points, const std::string& variant, LadderAxis axis) {
  double most = 0;
  for (const LadderPoint& point : points)
    if (OnLine(point, variant)) most = std::max(most, ScaleOf(point, axis).value_or(0));
  return most;
}

}  // namespace

std::vector<LadderPoint> PointsOf(std::span<const Rung> rungs, std::span<const std::optional<RungResult>> results) {
  std::vector<LadderPoint> points;
  for (size_t i = 0; i < rungs.size(); ++i) {
    if (!results[i]) continue;
    const Rung& rung = rungs[i];
    const RungResult& result = *results[i];
    // Rungs of a group follow each other.
    if (points.empty() || points.back().group != rung.group)
      points.push_back({.group = rung.group,
                        .variant = rung.variant,
                        .tokens_factor = rung.tokens_factor,
                        .held_out = rung.held_out,
                        .parameters = rung.parameters,
                        .tokens = result.tokens,
                        .flops = result.tokens * rung.flops_per_token,
                        .losses = {}});
    LadderPoint& point = points.back();
    const auto before = static_cast<double>(point.losses.size()), now = before + 1;
    point.losses.push_back(result.loss);
    point.loss = before == 0 ? result.loss : std::exp((before * std::log(point.loss) + std::log(result.loss)) / now);
    point.seconds = (before * point.seconds + result.seconds) / now;
    if (result.dollars) point.dollars = (before * point.dollars.value_or(0) + *result.dollars) / now;
  }
  return points;
}

std::optional<SeedNoise> NoiseOf(std::span<const LadderPoint> points) {
  std::vector<std::vector<double>> groups;
  for (const LadderPoint& point : points) groups.push_back(point.losses);
  return PooledNoise(groups);
}

absl::StatusOr<LossFit> FitAlong(LadderAxis axis, std::span<const LadderPoint> points, const std::string& variant,
                                 std::optional<double> asymptote, std::optional<SeedNoise> noise) {
  std::vector<LossSample> samples;
  for (const LadderPoint& point : points)
    if (const auto x = ScaleOf(point, axis); x && OnLine(point, variant))
      samples.push_back({.x = {*x}, .loss = point.loss, .runs = static_cast<int>(point.losses.size())});
  return FitWithDraws(samples, asymptote, noise);
}

absl::StatusOr<LossFit> FitSizesAndTokens(std::span<const LadderPoint> points, const std::string& variant,
                                          std::optional<double> asymptote, std::optional<SeedNoise> noise) {
  std::vector<LossSample> samples;
  for (const LadderPoint& point : points)
    if (point.variant == variant)
      samples.push_back(
          {.x = {point.parameters, point.tokens}, .loss = point.loss, .runs = static_cast<int>(point.losses.size())});
  return FitWithDraws(samples, asymptote, noise);
}

std::vector<Leverage> LeveragesOf(std::span<const LadderPoint> points, std::span<const std::string> variants, double asymptote,
                                  std::optional<SeedNoise> noise) {
  std::vector<Leverage> leverages;
  for (const LadderAxis axis : kLadderAxes) {
    const auto fit = FitAlong(axis, points, variants[0], asymptote, noise);
    if (!fit.ok()) continue;
    for (const LadderPoint& point : points) {
      const auto spent = ScaleOf(point, axis);
      if (!spent || point.variant == variants[0] || point.tokens_factor != 1) continue;
      const auto ratio = [&](const LossLaw& law) {
        const auto scale = ScaleAt(law, point.loss);
        return scale ? std::optional(*scale / *spent) : std::nullopt;
      };
      Leverage leverage{.group = point.group, .axis = axis, .ratio = ratio(fit->law), .interval = IntervalOf(*fit, ratio)};
      leverage.extrapolated = leverage.ratio.value_or(0) * *spent > MostSpent(points, variants[0], axis);
      leverages.push_back(std::move(leverage));
    }
  }
  return leverages;
}

std::vector<EqualBudget> EqualBudgetsOf(std::span<const LadderPoint> points, std::span<const std::string> variants,
                                        double asymptote, std::optional<SeedNoise> noise) {
  std::vector<EqualBudget> rows;
  for (const LadderAxis axis : kLadderAxes) {
    double budget = std::numeric_limits<double>::infinity();
    for (const std::string& variant : variants) budget = std::min(budget, MostSpent(points, variant, axis));
    if (budget == 0) continue;
    for (const std::string& variant : variants) {
      const auto fit = FitAlong(axis, points, variant, asymptote, noise);
      if (!fit.ok()) continue;
      const auto loss = [&](const LossLaw& law) { return std::optional(law.At(std::vector{budget})); };
      rows.push_back(
          {.axis = axis, .budget = budget, .variant = variant, .loss = *loss(fit->law), .interval = IntervalOf(*fit, loss)});
    }
  }
  return rows;
}

}  // namespace jevons
