// The solver behind loss_law.h.
#ifndef JEVONS_TRAINER_LADDER_LAW_SOLVER_H_
#define JEVONS_TRAINER_LADDER_LAW_SOLVER_H_

#include <optional>
#include <span>

#include "kernels/base/status.h"
#include "trainer/ladder/loss_law.h"

namespace jevons {

// Whether a law can be fitted at all: FitLossLaw's errors, but for the loss that does not fall.
absl::Status CheckSamples(std::span<const LossSample> samples, std::optional<double> asymptote);

struct RefinedLaw {
  LossLaw law;
  double cost = 0;  // sum of Huber's loss, in units of delta squared
};
// From `start` down to the nearest minimum; pinned: its asymptote stays.
RefinedLaw RefineLossLaw(std::span<const LossSample> samples, bool pinned, const LossLaw& start);

}  // namespace jevons

#endif  // JEVONS_TRAINER_LADDER_LAW_SOLVER_H_
