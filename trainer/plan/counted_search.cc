#include "trainer/plan/counted_search.h"

#include <algorithm>

#include "trainer/plan/layout_fields.h"
#include "trainer/step/planned_memory.h"
#include "trainer/step/train_step.h"

namespace jevons {

absl::StatusOr<MeshShape> MeshOn(const RunConfig& config, const ClusterConfig& cluster, const Layout& layout) {
  const MeshShape mesh{
      .world = static_cast<int>(layout.gpus), .pp = static_cast<int>(layout.pp), .ep = static_cast<int>(layout.ep)};
  const auto gpus = static_cast<int>(cluster.node().gpus());
  return OverNodes(config, mesh, mesh.ep <= gpus ? 1 : mesh.ep % gpus == 0 ? mesh.ep / gpus : 0);
}

namespace {

void Count(const RunConfig& config, const ClusterConfig& cluster, Candidate& c) {
  if (c.counted || !c.refusal.empty()) return;
  constexpr double kGiB = 1024.0 * 1024 * 1024;
  const auto limit = static_cast<int64_t>((cluster.gpu().hbm_gib() - cluster.gpu().reserved_gib()) * kGiB);
  const Layout& l = c.layout;
  const RunConfig with_layout = WithLayout(config, l);
  const auto mesh = MeshOn(with_layout, cluster, l);
  if (!mesh.ok()) {
    c.refusal = std::string(mesh.status().message());
    return;
  }
  const auto rank = CountUntilOver(limit, with_layout, *mesh, c.fullest_first, Constants().expert_imbalance);
  if (!rank.ok()) {
    c.refusal = std::string(rank.status().message());
  } else {
    c.counted = CountedMemory{.bytes = static_cast<double>(rank->bytes), .fits = rank->bytes <= limit};
  }
}

}  // namespace

void CountBest(const RunConfig& config, const ClusterConfig& cluster, int wanted, SearchResult& result) {
  int fitting = 0;
  for (Candidate& c : result.fitting) {
    if (fitting == wanted) break;
    Count(config, cluster, c);
    fitting += c.counted && c.counted->fits;
  }
  std::stable_sort(result.fitting.begin(), result.fitting.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(!a.refusal.empty(), a.overfull()) < std::pair(!b.refusal.empty(), b.overfull());
  });
}

const Candidate* NearestThatFits(const RunConfig& config, const ClusterConfig& cluster, SearchResult& result,
                                 const Layout& base) {
  for (Candidate* c : ByNearness(result, base)) {
    Count(config, cluster, *c);
    if (!c->overfull()) return c;
  }
  return nullptr;
}

}  // namespace jevons
