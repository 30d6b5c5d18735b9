// A ladder's description: text format in, LadderConfig out, every rule on it checked.
#ifndef JEVONS_CONFIGS_LADDER_H_
#define JEVONS_CONFIGS_LADDER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/ladder.pb.h"
#include "configs/validate.h"

namespace jevons {

// Usage errors name the file, and each field that is unknown, missing or out of range with the nearest legal value. What `set` says
// is checked when rungs are made of it (trainer/ladder/rungs.h).
absl::StatusOr<LadderConfig> LoadLadder(const std::string& path);
// The same from text; `name` stands for the file in messages.
absl::StatusOr<LadderConfig> ParseLadder(const std::string& text, const std::string& name);

// Every broken rule, in the order of the fields.
std::vector<Violation> Validate(const LadderConfig& ladder);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_LADDER_H_
