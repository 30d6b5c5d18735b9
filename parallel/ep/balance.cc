#include "parallel/ep/balance.h"

#include <algorithm>
#include <numeric>

namespace jevons {

std::vector<float> GateBiasSteps(std::span<const int64_t> counts, float speed) {
  std::vector<float> steps(counts.size(), 0.0f);
  const int64_t experts = static_cast<int64_t>(counts.size());
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t excess = counts[e] * experts - total;  // E * (c_e - mean), in integers
    if (excess < 0) steps[e] = speed;
    if (excess > 0) steps[e] = -speed;
  }
  return steps;
}

LoadSummary SummarizeLoad(std::span<const int64_t> counts) {
  LoadSummary summary;
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (total > 0) {
    const int64_t most = *std::max_element(counts.begin(), counts.end());
    summary.max_over_mean = static_cast<double>(most) * static_cast<double>(counts.size()) / static_cast<double>(total);
  }
  summary.dead = std::count(counts.begin(), counts.end(), int64_t{0});
  return summary;
}

}  // namespace jevons
