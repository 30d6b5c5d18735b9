// Variables of the environment that steer a process.
#ifndef JEVONS_KERNELS_BASE_ENVIRONMENT_H_
#define JEVONS_KERNELS_BASE_ENVIRONMENT_H_

#include <optional>
#include <span>

namespace jevons {

// Which of `names` the variable holds; nothing where it is unset or empty. Any other value ends the process with exit code 2 and one
// line that names variable, value and names: a misspelt one must not be taken for the default.
std::optional<size_t> EnvironmentChoice(const char* variable, std::span<const char* const> names);

// Whether the variable holds 1; 0, empty and unset mean no, and any other value ends the process as above.
bool EnvironmentSwitch(const char* variable);

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_ENVIRONMENT_H_
