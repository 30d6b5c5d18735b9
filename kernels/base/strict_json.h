// JSON of others, read strictly.
#ifndef JEVONS_KERNELS_BASE_STRICT_JSON_H_
#define JEVONS_KERNELS_BASE_STRICT_JSON_H_

#include "absl/strings/string_view.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace jevons {

// Refuses, beside what is not JSON, duplicate keys, which parsers silently let overwrite each other, and nesting deeper than
// 16. IntegrityError that begins with "not valid JSON".
absl::StatusOr<nlohmann::json> ParseStrictJson(absl::string_view text);

// At most 60 characters of a value, for messages.
std::string ShownJson(const nlohmann::json& value);

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_STRICT_JSON_H_
