// A layout for fewer ranks than a run was begun with: bits do not depend on it (contract 8), so any that is legal will do.
#ifndef JEVONS_LAUNCH_SUPERVISE_LAYOUT_FOR_H_
#define JEVONS_LAUNCH_SUPERVISE_LAYOUT_FOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/status.h"

namespace jevons {

struct RankLayout {
  int64_t ranks = 0;
  std::vector<std::string> assignments = {};  // of --set, that make it of the config's; empty where that is legal as it is
};

// Where `on_all_hosts` is false what the config says of nodes no longer holds: rows go as the nodes that are left allow.
//
// As many of `ranks` as have a legal layout, with as many stages as the config has where that can be, else fewer, and experts over as many
// ranks as it says, else fewer. UsageError where not even one rank has one: what is wrong with the config itself.
absl::StatusOr<RankLayout> LayoutFor(const RunConfig& config, int64_t ranks, bool on_all_hosts);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_LAYOUT_FOR_H_
