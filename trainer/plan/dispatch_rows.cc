#include "trainer/plan/dispatch_rows.h"

#include <algorithm>
#include <cmath>

#include "parallel/ep/even_routing.h"

namespace jevons {

double PartsOfToken(double parts, const ModelShape& m, bool limit_groups) {
  const RoutingShape shape{
      .experts = m.experts, .groups = m.groups, .kept = limit_groups ? m.kept_groups : m.groups, .slots = m.top_k};
  const auto begin = [&](double part) {
    return std::min<int64_t>(m.experts, std::llround(part * static_cast<double>(m.experts) / parts));
  };
  const int64_t size = begin(1), group = m.experts / m.groups;
  // Parts that have whole groups, or lie within one, are alike.
  if (std::max(size, group) % std::min(size, group) == 0 && static_cast<double>(size) * parts == static_cast<double>(m.experts))
    return parts * ChanceOf(shape, {0, size});
  double sum = 0;
  for (double part = 0; part < parts; ++part) sum += ChanceOf(shape, {begin(part), begin(part + 1)});
  return sum;
}

DispatchRows RowsOfToken(const ModelShape& m, const Layout& l, int64_t gpus_per_node) {
  const double ep = static_cast<double>(l.ep), gpus = std::min(ep, static_cast<double>(gpus_per_node)), nodes = ep / gpus,
               k = static_cast<double>(m.top_k);
  if (l.dispatch == Dispatch::kFlat) return {.network = k * (1 - 1 / nodes), .links = k * (1 / nodes - 1 / ep)};
  const double stays = l.dispatch == Dispatch::kTwoHops ? 1 / gpus : 1 / ep;
  return {.network = PartsOfToken(nodes, m, l.limit_nodes) * (1 - 1 / nodes),
          .links = PartsOfToken(ep, m, l.limit_nodes) * (1 - stays)};
}

DispatchRows SumsOfToken(const ModelShape& m, const Layout& l, int64_t gpus_per_node) {
  if (l.dispatch != Dispatch::kTwoHops) return RowsOfToken(m, l, gpus_per_node);
  const double gpus = static_cast<double>(std::min(l.ep, gpus_per_node)), nodes = static_cast<double>(l.ep) / gpus;
  const double groups = PartsOfToken(static_cast<double>(m.groups), m, l.limit_nodes);
  const double units = m.groups % l.ep == 0 ? groups : static_cast<double>(m.top_k);
  return {.network = groups * (1 - 1 / nodes), .links = units * (1 - 1 / gpus)};
}

}  // namespace jevons
