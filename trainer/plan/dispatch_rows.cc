#include "trainer/plan/dispatch_rows.h"

#include <algorithm>
#include <cmath>

namespace jevons {
namespace {

// That `draws` different ones of `all` are none of `part`: C(all - part, draws) / C(all, draws).
double Missed(double all, double part, int64_t draws) {
  double chance = 1;
  for (int64_t i = 0; i < draws; ++i) chance *= std::max(0.0, all - part - static_cast<double>(i)) / (all - static_cast<double>(i));
  return chance;
}

double Choose(int64_t n, int64_t k) {
  if (k < 0 || k > n) return 0;
  double ways = 1;
  for (int64_t i = 1; i <= k; ++i) ways *= static_cast<double>(n - k + i) / static_cast<double>(i);
  return ways;
}

// What a part of the experts [begin, end) has of the groups: so many whole ones, and pieces of up to two.
struct Part {
  int64_t whole = 0;
  double piece[2] = {0, 0};
};

Part PartOf(double begin, double end, double group) {
  Part part;
  const double first = std::floor(begin / group), last = std::ceil(end / group);
  for (double g = first; g < last; ++g) {
    const double held = std::min(end, (g + 1) * group) - std::max(begin, g * group);
    if (held == group) ++part.whole;
    else part.piece[g == first ? 0 : 1] = held;
  }
  return part;
}

// That a token has an expert there: summed over how many of its whole groups the gate keeps, and whether it keeps those of the pieces.
double Hit(const Part& part, int64_t groups, int64_t kept, double group, int64_t top_k) {
  const int64_t pieces = (part.piece[0] > 0) + (part.piece[1] > 0), elsewhere = groups - part.whole - pieces;
  double hit = 0;
  for (int64_t g = 0; g <= std::min(part.whole, kept); ++g) {
    for (int i = 0; i <= (part.piece[0] > 0); ++i) {
      for (int j = 0; j <= (part.piece[1] > 0); ++j) {
        const double chance = Choose(part.whole, g) * Choose(elsewhere, kept - g - i - j) / Choose(groups, kept);
        const double held = static_cast<double>(g) * group + i * part.piece[0] + j * part.piece[1];
        hit += chance * (1 - Missed(group * static_cast<double>(kept), held, top_k));
      }
    }
  }
  return hit;
}

}  // namespace

double PartsOfToken(double parts, const ModelShape& m, bool limit_groups) {
  const double experts = static_cast<double>(m.experts), group = experts / static_cast<double>(m.groups), size = experts / parts;
  const int64_t kept = limit_groups ? m.kept_groups : m.groups;
  const bool alike = std::fmod(std::max(size, group), std::min(size, group)) == 0;
  if (alike) return parts * Hit(PartOf(0, size, group), m.groups, kept, group, m.top_k);
  double hit = 0;
  for (int64_t i = 0; static_cast<double>(i) < parts; ++i) {
    const double begin = static_cast<double>(i) * size;
    hit += Hit(PartOf(begin, std::min(begin + size, experts), group), m.groups, kept, group, m.top_k);
  }
  return hit;
}

DispatchRows RowsOfToken(const ModelShape& m, const Layout& l, int64_t gpus_per_node) {
  const double ep = static_cast<double>(l.ep), nodes = ep / std::min(ep, static_cast<double>(gpus_per_node)), k = static_cast<double>(m.top_k);
  if (l.dispatch == Dispatch::kFlat) return {.network = k * (1 - 1 / nodes), .links = k * (1 / nodes - 1 / ep)};
  return {.network = PartsOfToken(nodes, m, l.limit_nodes) * (1 - 1 / nodes), .links = PartsOfToken(ep, m, l.limit_nodes) * (1 - 1 / ep)};
}

}  // namespace jevons
