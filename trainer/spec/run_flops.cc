#include "trainer/spec/run_flops.h"

#include <algorithm>

#include "trainer/spec/flops.h"

namespace jevons {

RunFlops::RunFlops(const RunSchedule& schedule) {
  for (const int64_t step : schedule.StageSteps()) {
    const StepPlan first = schedule.At(step);
    const RunConfig& stage = schedule.stage(first.stage);
    parts_.push_back(
        {first.tokens_before, CountFlops(stage.model(), stage.data().sequence_length(), CoreCount::kCausal).training()});
  }
}

double RunFlops::Training(double tokens) const {
  double flops = 0;
  for (size_t i = 0; i < parts_.size() && parts_[i].first_token < tokens; ++i) {
    const double end = i + 1 < parts_.size() ? std::min(tokens, parts_[i + 1].first_token) : tokens;
    flops += (end - parts_[i].first_token) * parts_[i].flops_per_token;
  }
  return flops;
}

}  // namespace jevons
