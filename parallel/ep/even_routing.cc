#include "parallel/ep/even_routing.h"

#include <algorithm>
#include <map>
#include <utility>

namespace jevons {

// For every way to keep groups the hypergeometric chance to miss: C(candidates - here, slots) / C(candidates, slots).
double ChanceOf(const RoutingShape& shape, Range experts) {
  const int64_t per_group = shape.experts / shape.groups, candidates = shape.kept * per_group;
  // ways[{groups kept, experts among theirs}] / C(groups, kept), group after group.
  std::map<std::pair<int64_t, int64_t>, double> ways = {{{0, 0}, 1}};
  for (int64_t g = 0; g < shape.groups; ++g) {
    const int64_t here =
        std::max<int64_t>(0, std::min(experts.end, (g + 1) * per_group) - std::max(experts.begin, g * per_group));
    std::map<std::pair<int64_t, int64_t>, double> next;
    for (const auto& [state, chance] : ways) {
      const auto& [kept, among] = state;
      const double keeps = static_cast<double>(shape.kept - kept) / static_cast<double>(shape.groups - g);
      if (keeps > 0) next[{kept + 1, among + here}] += chance * keeps;
      if (keeps < 1) next[{kept, among}] += chance * (1 - keeps);
    }
    ways = std::move(next);
  }
  double chance = 0;
  for (const auto& [state, weight] : ways) {
    double miss = 1;
    for (int64_t k = 0; k < shape.slots; ++k)
      miss *= static_cast<double>(std::max<int64_t>(0, candidates - state.second - k)) / static_cast<double>(candidates - k);
    chance += weight * (1 - miss);
  }
  return chance;
}

}  // namespace jevons
