#include "configs/defaults.h"

namespace jevons {

SumType SumsOf(const RunConfig& config) {
  if (config.parallel().has_sums()) return config.parallel().sums();
  return config.parallel().backend() == CUDA ? CHAIN : EXACT;
}

}  // namespace jevons
