// A ladder for people and for programs: the plan, the results, what they say.
#ifndef JEVONS_TRAINER_LADDER_REPORT_H_
#define JEVONS_TRAINER_LADDER_REPORT_H_

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "configs/ladder.pb.h"
#include "trainer/ladder/forecast.h"
#include "trainer/ladder/rungs.h"

namespace jevons {

struct LadderState {
  LadderConfig ladder;
  std::vector<Rung> rungs;
  std::vector<std::optional<RungResult>> results;  // one for each rung
  std::vector<Forecast> forecasts = {};            // as they were written down; empty before
};

// Seconds and dollars: spent on rungs that are finished, foretold for the others.
struct LadderCost {
  double spent_seconds = 0, left_seconds = 0;
  double spent_dollars = 0, left_dollars = 0;
};
LadderCost CostOf(const LadderState& state);

std::string LadderPlanText(const LadderState& state);     // the rungs, and what all of them take
std::string LadderResultsText(const LadderState& state);  // fits, forecasts and their miss, leverage
nlohmann::ordered_json LadderJson(const LadderState& state);
std::string LadderCsv(const LadderState& state);  // a line for each rung; what is not known yet is empty

}  // namespace jevons

#endif  // JEVONS_TRAINER_LADDER_REPORT_H_
