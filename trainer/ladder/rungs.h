// The rungs of a ladder: each a whole run, with what it will take; and what it has come to.
#ifndef JEVONS_TRAINER_LADDER_RUNGS_H_
#define JEVONS_TRAINER_LADDER_RUNGS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/ladder.pb.h"
#include "configs/run.pb.h"

namespace jevons {

struct Rung {
  std::string name;   // "moe8-s2-x4-seed1": of its folder
  std::string group;  // "moe8-s2-x4": rungs of one group differ in seed alone
  std::string variant, size;
  uint64_t seed = 1;
  double tokens_factor = 1;
  bool held_out = false;
  RunConfig config;
  double parameters = 0;               // that a token uses, without embedding and head: N
  double total_parameters = 0;         // without MTP modules
  double flops_per_token = 0;          // of training, causal, with all that is paid for: head and MTP modules too
  double tokens = 0;                   // D; flops() is C
  double seconds = 0;                  // foretold, as the ladder's gflops and slowdown say
  std::optional<double> dollars = {};  // likewise; none where no price is known

  double flops() const { return flops_per_token * tokens; }
};

// In the order in which they are run: size by size, and in each variant by variant. `base`: the run that ladder.base names. `overrides`:
// applied to every rung at last, over what the law says too. A usage error names the field of the ladder, or the rung whose run is not valid.
absl::StatusOr<std::vector<Rung>> PlanRungs(const LadderConfig& ladder, const RunConfig& base,
                                            std::span<const std::string> overrides);

struct RungResult {
  double tokens = 0;
  double loss = 0;           // of the last validation [nats per token]
  double bits_per_byte = 0;  // 0: not known
  double seconds = 0;        // that devices were paid for, lost work included
  double device_hours = 0;
  std::optional<double> dollars = {};
};

// What a finished run's summary says; none where the run in `folder` is not finished. IntegrityError where it had no validation set.
absl::StatusOr<std::optional<RungResult>> ReadRungResult(const Rung& rung, const std::string& folder);

}  // namespace jevons

#endif  // JEVONS_TRAINER_LADDER_RUNGS_H_
