// All legal layouts of a run on a cluster, best first.
#ifndef JEVONS_TRAINER_PLAN_SEARCH_H_
#define JEVONS_TRAINER_PLAN_SEARCH_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "trainer/plan/planner.h"

namespace jevons {

struct Candidate {
  Layout layout;
  double step_seconds = 0, dollars_per_million_tokens = 0, mfu = 0, memory = 0;  // memory: of the fullest rank, bytes
};

// Layouts that are out, by reason: how many, and the one that came closest.
struct Rejection {
  int count = 0;
  std::string example;
  double excess = 0;  // bytes over the limit, where memory is the reason
};

struct SearchResult {
  std::vector<Candidate> fitting;  // cheapest token first
  std::map<std::string, Rejection> rejected;
  int tried = 0;
};

// Varies pp, ep, schedule, stages per rank, micro-batch and recomputation; batch, length and precision stay `base`'s.
SearchResult SearchLayouts(const ModelShape& model, const Layout& base, const ClusterConfig& cluster, const Constants& constants = {});
// The fitting layout that differs from `base` in the fewest fields, the cheapest of these; nullptr where none fits.
const Candidate* NearestFitting(const SearchResult& result, const Layout& base);
// FailureError where nothing fits: the layout that came nearest, and by how much it does not.
absl::Status FitStatus(const SearchResult& result);
// `shown`: so many lines of the ranking; the base layout's place is always told.
std::string SearchText(const SearchResult& result, const Layout& base, const ClusterConfig& cluster, int shown);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_SEARCH_H_
