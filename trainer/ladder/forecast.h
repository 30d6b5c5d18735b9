// The losses of the largest size, foretold from all others before it is run.
#ifndef JEVONS_TRAINER_LADDER_FORECAST_H_
#define JEVONS_TRAINER_LADDER_FORECAST_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trainer/ladder/analysis.h"

namespace jevons {

struct Forecast {
  std::string group;
  std::string law;                           // "L(C), pinned": what it comes from
  std::optional<double> loss;                // none where that law could not be fitted
  std::optional<LawInterval> interval = {};  // of the mean of the group's runs
  Resampling resampling = Resampling::kNone;
  std::string refusal = {};  // why there is no loss
};

// Of each group that is held out, by L(C) and L(N, D), each with the asymptote pinned and free. `points`: of the others.
std::vector<Forecast> ForecastsOf(std::span<const Rung> rungs, std::span<const LadderPoint> points, double asymptote);

// The file that is written before the held-out rungs are run, so that nobody can say later what was foretold.
std::string ForecastsJson(std::span<const Forecast> forecasts);
absl::StatusOr<std::vector<Forecast>> ParseForecasts(const std::string& text, const std::string& name);

// "seeds", "rungs", "none"
std::string ResamplingName(Resampling resampling);

}  // namespace jevons

#endif  // JEVONS_TRAINER_LADDER_FORECAST_H_
