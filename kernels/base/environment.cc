#include "kernels/base/environment.h"

#include <cstdlib>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/log.h"

namespace jevons {

std::optional<size_t> EnvironmentChoice(const char* variable, std::span<const char* const> names) {
  const char* const value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return std::nullopt;
  for (size_t i = 0; i < names.size(); ++i)
    if (std::string(value) == names[i]) return i;
  LogError(absl::StrFormat("%s=%s: say %s, or unset it", variable, value, absl::StrJoin(names, " or ")));
  std::exit(2);
}

bool EnvironmentSwitch(const char* variable) {
  constexpr const char* kNames[] = {"0", "1"};
  return EnvironmentChoice(variable, kNames).value_or(0) == 1;
}

}  // namespace jevons
