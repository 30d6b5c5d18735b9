// RUN/supervise.ranks: what the ranks of several hosts do, as their supervisor tells it, for whoever asks on whatever host.
#ifndef JEVONS_LAUNCH_SUPERVISE_RANK_TABLE_H_
#define JEVONS_LAUNCH_SUPERVISE_RANK_TABLE_H_

#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "launch/supervise/rank_state.h"

namespace jevons {

struct RankTable {
  std::vector<std::string> hosts = {};
  std::vector<RankState> ranks = {};  // whose `host` is one of those
};

// FailureError where it cannot be written. A reader sees the old one or the new one, whole.
absl::Status WriteRankTable(const std::string& run, const RankTable& table);
// Times without a sign of life go on since it was written. Empty where there is none, or it is old: its supervisor was killed.
RankTable ReadRankTable(const std::string& run);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_RANK_TABLE_H_
