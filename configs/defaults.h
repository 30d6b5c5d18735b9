// Settings whose default depends on others.
#ifndef JEVONS_CONFIGS_DEFAULTS_H_
#define JEVONS_CONFIGS_DEFAULTS_H_

#include "configs/run.pb.h"

namespace jevons {

// parallel.sums, else EXACT on the CPU and CHAIN on CUDA.
SumType SumsOf(const RunConfig& config);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_DEFAULTS_H_
