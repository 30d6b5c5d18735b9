// The stages of a run (train.stage), each as the config that its steps are trained with.
#ifndef JEVONS_CONFIGS_STAGES_H_
#define JEVONS_CONFIGS_STAGES_H_

#include <vector>

#include "configs/run.pb.h"

namespace jevons {

// [1 + train.stage]: the run as it begins, then with what each stage sets. None has stages itself.
std::vector<RunConfig> StageConfigs(const RunConfig& config);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_STAGES_H_
