// FLOPs of training a run, whose stages (train.stage) may have sequences of other lengths, and so other FLOPs in a token.
#ifndef JEVONS_TRAINER_SPEC_RUN_FLOPS_H_
#define JEVONS_TRAINER_SPEC_RUN_FLOPS_H_

#include <vector>

#include "trainer/spec/schedules.h"

namespace jevons {

class RunFlops {
 public:
  explicit RunFlops(const RunSchedule& schedule);
  // Of the run's first so many tokens: causal, MTP modules included.
  double Training(double tokens) const;

 private:
  struct Part {
    double first_token, flops_per_token;
  };
  std::vector<Part> parts_;  // by rising tokens; the last has no end
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_RUN_FLOPS_H_
