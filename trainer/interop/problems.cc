#include "trainer/interop/problems.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace jevons {

absl::Status ProblemsStatus(const std::string& path, const std::vector<std::string>& problems) {
  if (problems.empty()) return absl::OkStatus();
  if (problems.size() == 1) return IntegrityError(absl::StrCat(path, ": ", problems[0]));
  return IntegrityError(
      absl::StrCat(path, ": ", problems.size(), " things are not as they must be\n  ", absl::StrJoin(problems, "\n  ")));
}

}  // namespace jevons
