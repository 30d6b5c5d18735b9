#include "launch/supervise/layout_for.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "configs/validate.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

absl::Status CheckLegal(const RunConfig& config, int64_t ranks) {
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, static_cast<int>(ranks)));
  return config.parallel().pp() > 1 ? CheckPipeline(config, static_cast<int>(ranks)) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<RankLayout> LayoutFor(const RunConfig& config, int64_t ranks, bool on_all_hosts) {
  const int64_t most_pp = config.parallel().pp(), most_ep = config.parallel().ep();
  absl::Status illegal;
  for (int64_t n = ranks; n > 0; --n) {
    for (int64_t pp = std::min(most_pp, n); pp > 0; --pp) {
      if (n % pp != 0) continue;
      for (int64_t ep = std::min(most_ep, n / pp); ep > 0; --ep) {
        if (n / pp % ep != 0) continue;
        RunConfig changed = config;
        RankLayout layout{.ranks = n};
        const auto set = [&](const char* field, const auto& value) {
          layout.assignments.push_back(absl::StrCat("parallel.", field, "=", value));
        };
        if (!on_all_hosts && config.parallel().dispatch() == FORWARDING) set("dispatch", "AUTO");
        if (!on_all_hosts && config.parallel().ep_nodes() > 0) set("ep_nodes", 0);
        if (ep != most_ep) {
          changed.mutable_parallel()->set_ep(ep);
          set("ep", ep);
        }
        if (pp != most_pp) {
          changed.mutable_parallel()->set_pp(pp);
          set("pp", pp);
          // A cut and a schedule were for as many stages as there were.
          changed.mutable_parallel()->clear_stages();
          changed.mutable_parallel()->set_schedule(ONE_F_ONE_B);
          changed.mutable_parallel()->set_virtual_stages(1);
          set("stages", "\"\"");
          set("schedule", "ONE_F_ONE_B");
          set("virtual_stages", 1);
        }
        illegal = CheckLegal(changed, n);
        if (illegal.ok()) return layout;
      }
    }
  }
  return illegal;
}

}  // namespace jevons
