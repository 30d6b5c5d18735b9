// One field of a line of JSON. The rest of the line is checked to be JSON, so that nothing is passed over, but no value of it
// is converted: what stands in a field that nobody reads can lose no document.
#ifndef JEVONS_DATA_PREPARE_JSON_LINE_H_
#define JEVONS_DATA_PREPARE_JSON_LINE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace jevons {

// The string in `field` of the object that `line` is, as valid UTF-8. A byte-order mark before the object is passed over. Other
// fields may hold what Python's json reads and writes beside JSON: NaN, Infinity, -Infinity, numbers of any size, halves of
// surrogate pairs; and bytes that are not UTF-8. Integrity error, to which the caller adds file and line: "not valid JSON", not
// an object, no such field, the field given twice, not a string, not UTF-8, or with half a surrogate pair.
absl::StatusOr<std::string> JsonLineField(absl::string_view line, absl::string_view field);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_JSON_LINE_H_
