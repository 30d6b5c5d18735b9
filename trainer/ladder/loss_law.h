// L = E + sum over j of A_j x_j^-a_j: the loss as a power law of compute, L(C), or of parameters and tokens, L(N, D); fitted, with
// intervals, and read backwards.
//
// A fit is the least sum of Huber's loss of log L - log of the law (delta = 1e-3, as in Hoffmann et al., arXiv 2203.15556, approach 3),
// found by Levenberg-Marquardt from every start of a grid. Nothing is random: one input, one result.
#ifndef JEVONS_TRAINER_LADDER_LOSS_LAW_H_
#define JEVONS_TRAINER_LADDER_LOSS_LAW_H_

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace jevons {

struct PowerTerm {
  double factor = 0, exponent = 0;  // A, a; both positive where the loss falls
};

struct LossLaw {
  double asymptote = 0;  // E [nats per token]
  std::vector<PowerTerm> terms;

  double At(std::span<const double> x) const;  // of as many scales as there are terms
};

// The x at which a law of one term has this loss; none at or below its asymptote.
std::optional<double> ScaleAt(const LossLaw& law, double loss);

// Of a law L(N, D), where 6 N D = compute is spent best.
struct BestSplit {
  double parameters = 0, tokens = 0, loss = 0;
};
BestSplit BestSplitAt(const LossLaw& law, double compute);

struct LossSample {
  std::vector<double> x;  // one scale, C, or two: N and D
  double loss = 0;        // mean over `runs` that differ in seed alone
  int runs = 1;
};

// `asymptote`: pinned there; none: fitted too. Usage errors, one sentence each: fewer different scales than numbers to fit, losses at or
// below the asymptote, a scale or a loss that is no positive number, a loss that does not fall, N and D that keep step with each other.
absl::StatusOr<LossLaw> FitLossLaw(std::span<const LossSample> samples, std::optional<double> asymptote);

// How far runs lie apart that differ in seed alone: standard deviation of log L, from so many degrees of freedom.
struct SeedNoise {
  double deviation = 0;
  int degrees = 0;
};
// Pooled over groups; each has the losses of one rung's seeds. None where no group has two.
std::optional<SeedNoise> PooledNoise(std::span<const std::vector<double>> groups);

// Where intervals come from: each of the draws is the law fitted again.
enum class Resampling {
  kSeeds,  // to losses with noise as large as that of the seeds, itself drawn from what so few seeds tell of it
  kRungs,  // to rungs drawn from the rungs with replacement: there is no noise of seeds to draw from
  kNone,   // too few rungs for that
};

struct LossFit {
  LossLaw law;
  Resampling resampling = Resampling::kNone;
  std::vector<LossLaw> draws = {};
  std::vector<double> deviations = {};  // with kSeeds, the noise of each draw
};
absl::StatusOr<LossFit> FitWithDraws(std::span<const LossSample> samples, std::optional<double> asymptote,
                                     std::optional<SeedNoise> noise);

struct LawInterval {
  double low = 0, high = 0;  // 5% of the draws lie below, 5% above
};
// Of what `figure` makes of a law; none where there are no draws, or where it has no value on a twentieth of them or more.
std::optional<LawInterval> IntervalOf(const LossFit& fit, const std::function<std::optional<double>(const LossLaw&)>& figure);
// Of the mean loss of `runs` new runs at x: the law's interval and, where the seeds' noise is known, their own.
std::optional<LawInterval> IntervalOfRuns(const LossFit& fit, std::span<const double> x, int runs);

// "1.6 + 12.3 C^-0.124"; names: of the scales.
std::string LawText(const LossLaw& law, std::span<const char* const> names);

}  // namespace jevons

#endif  // JEVONS_TRAINER_LADDER_LOSS_LAW_H_
