// Auxiliary-loss-free balancing (DeepSeek-V3 report 2.1.2; arXiv 2408.15664, algorithm 1): once a step, from
// the whole batch's integer counts, b_i += speed * sign(mean(c) - c_i); sign(0) = 0.
#ifndef JEVONS_PARALLEL_EP_BALANCE_H_
#define JEVONS_PARALLEL_EP_BALANCE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace jevons {

// What is added to each bias: speed, -speed or 0. counts: [E] rows per expert over the whole batch.
std::vector<float> GateBiasSteps(std::span<const int64_t> counts, float speed);

struct LoadSummary {
  double max_over_mean = 0;  // 1 = perfectly even; 0 where nothing was routed
  int64_t dead = 0;          // experts that received no row
};
LoadSummary SummarizeLoad(std::span<const int64_t> counts);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_BALANCE_H_
