// Descriptions are small text files: read whole, or refused with a reason.
#ifndef JEVONS_CONFIGS_TEXT_FILE_H_
#define JEVONS_CONFIGS_TEXT_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace jevons {

// `wanted` says what the file should be, in the error: "a run config, such as ...".
absl::StatusOr<std::string> ReadTextFile(const std::string& path, const std::string& wanted);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_TEXT_FILE_H_
