// What the finished rungs of a ladder say together.
#ifndef JEVONS_TRAINER_LADDER_ANALYSIS_H_
#define JEVONS_TRAINER_LADDER_ANALYSIS_H_

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trainer/ladder/loss_law.h"
#include "trainer/ladder/rungs.h"

namespace jevons {

// The rungs of a group that are finished.
struct LadderPoint {
  std::string group, variant;
  double tokens_factor = 1;
  bool held_out = false;
  double parameters = 0, tokens = 0, flops = 0;
  double seconds = 0;                  // of one of them, on average
  std::optional<double> dollars = {};  // likewise
  std::vector<double> losses;          // of each
  double loss = 0;                     // their geometric mean
};
// results[i]: of rungs[i], none where it is not finished.
std::vector<LadderPoint> PointsOf(std::span<const Rung> rungs, std::span<const std::optional<RungResult>> results);

std::optional<SeedNoise> NoiseOf(std::span<const LadderPoint> points);

// What a loss is a function of.
enum class LadderAxis { kFlops, kSeconds, kDollars };
inline constexpr std::array<LadderAxis, 3> kLadderAxes = {LadderAxis::kFlops, LadderAxis::kSeconds, LadderAxis::kDollars};
inline constexpr std::array<const char*, 3> kLadderAxisNames = {"flops", "seconds", "dollars"};

// L(x) of the points of one variant that have the law's own number of tokens.
absl::StatusOr<LossFit> FitAlong(LadderAxis axis, std::span<const LadderPoint> points, const std::string& variant,
                                 std::optional<double> asymptote, std::optional<SeedNoise> noise);
// L(N, D) of all its points.
absl::StatusOr<LossFit> FitSizesAndTokens(std::span<const LadderPoint> points, const std::string& variant,
                                          std::optional<double> asymptote, std::optional<SeedNoise> noise);

// How many times as much the first variant takes to come to the loss of a point of another.
struct Leverage {
  std::string group;
  LadderAxis axis = LadderAxis::kFlops;
  std::optional<double> ratio;  // none where the first variant's law never gets there
  std::optional<LawInterval> interval = {};
  bool extrapolated = false;  // beyond the first variant's own points
};
// Of every other variant's points, by the first one's law with a pinned asymptote. Axes of which the points know nothing, as dollars without
// a price, and laws that cannot be fitted are left out.
std::vector<Leverage> LeveragesOf(std::span<const LadderPoint> points, std::span<const std::string> variants, double asymptote,
                                  std::optional<SeedNoise> noise);

// The loss of each variant at one budget, the most that all of them have spent on a point, by their laws with a pinned asymptote.
struct EqualBudget {
  LadderAxis axis = LadderAxis::kFlops;
  double budget = 0;
  std::string variant;
  double loss = 0;
  std::optional<LawInterval> interval = {};
};
std::vector<EqualBudget> EqualBudgetsOf(std::span<const LadderPoint> points, std::span<const std::string> variants,
                                        double asymptote, std::optional<SeedNoise> noise);

}  // namespace jevons

#endif  // JEVONS_TRAINER_LADDER_ANALYSIS_H_
