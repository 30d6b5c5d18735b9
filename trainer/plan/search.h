// All legal layouts of a run on a cluster, best first.
#ifndef JEVONS_TRAINER_PLAN_SEARCH_H_
#define JEVONS_TRAINER_PLAN_SEARCH_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "trainer/plan/planner.h"

namespace jevons {

// Bytes of the fullest rank, counted by the run's own step; of the first that does not fit, where one does not.
struct CountedMemory {
  double bytes = 0;
  bool fits = false;
};

struct Candidate {
  Layout layout;
  double step_seconds = 0, dollars_per_million_tokens = 0, mfu = 0;
  double memory = 0;                     // of the fullest rank by formulas, bytes
  std::vector<int> fullest_first;        // ranks of a pipeline by the same formulas
  std::optional<CountedMemory> counted;  // counted_search.h
  bool overfull() const { return counted && !counted->fits; }
  std::string refusal;                   // why `jevons train` refuses it; "" where it does not
  std::vector<std::string> assignments;  // of --set, that make it of the run's layout
};

// Layouts that are out, by reason: how many, and the one that came closest.
struct Rejection {
  int count = 0;
  std::string example;
  double excess = 0;  // bytes over the limit, where memory is the reason
};

struct SearchResult {
  std::vector<Candidate> fitting;  // by formulas; those that can be trained first, then the cheapest token
  std::map<std::string, Rejection> rejected;
  int tried = 0;
};

// Varies pp, ep, schedule, stages per rank, micro-batch and recomputation of the run; batch, length and precision stay.
SearchResult SearchLayouts(const RunConfig& config, const ClusterConfig& cluster, const Constants& constants = {});
// The fitting layouts that differ from `base`, the nearest first: those that can be trained, of these those that differ in the fewest fields, of
// these the cheapest.
std::vector<Candidate*> ByNearness(SearchResult& result, const Layout& base);
// UsageError where nothing fits, or nothing after counting: the layout that came nearest, and by how much it does not.
absl::Status FitStatus(const SearchResult& result);
// "--set parallel.pp=2 --set ...", what to add to the command line.
std::string SetText(const Candidate& candidate);
// `shown`: so many lines of the ranking; the base layout's place is always told.
std::string SearchText(const SearchResult& result, const Layout& base, const ClusterConfig& cluster, int shown);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_SEARCH_H_
