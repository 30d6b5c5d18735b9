// JSON of others, read strictly.
#ifndef JEVONS_KERNELS_BASE_STRICT_JSON_H_
#define JEVONS_KERNELS_BASE_STRICT_JSON_H_

#include "absl/strings/string_view.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace jevons {

// Refuses, beside what is not JSON (NaN and Infinity are not), duplicate keys, which parsers silently let overwrite each other, NUL
// characters, which end a text for some parsers, and nesting deeper than 16. A byte order mark of UTF-8 at the start is passed over.
// IntegrityError that begins with "not valid JSON" and says at which byte.
absl::StatusOr<nlohmann::json> ParseStrictJson(absl::string_view text);

// At most 60 characters of a value, for messages.
std::string ShownJson(const nlohmann::json& value);

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_STRICT_JSON_H_
