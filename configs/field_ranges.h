// The legal range of a number in a description other than a run's, whose ranges are in ranges.h.
#ifndef JEVONS_CONFIGS_FIELD_RANGES_H_
#define JEVONS_CONFIGS_FIELD_RANGES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "configs/validate.h"

namespace google::protobuf {
class Message;
}

namespace jevons {

struct FieldRange {
  const char* path;  // from the message that is checked
  double min, max;
  bool optional = false;  // may be left unset without a default
};

// Adds what is wrong with one field. `prefix` stands before the path in it: "size[2]."; nothing for the outermost message.
void CheckRange(const google::protobuf::Message& message, const FieldRange& range, const std::string& prefix,
                std::vector<Violation>& violations);

// OK, or a usage error with one line per violation, each beginning with the file's name.
absl::Status FileStatus(const std::string& name, const std::vector<Violation>& violations);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_FIELD_RANGES_H_
