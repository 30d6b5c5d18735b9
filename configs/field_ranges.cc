#include "configs/field_ranges.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {

void CheckRange(const google::protobuf::Message& root, const FieldRange& range, const std::string& prefix,
                std::vector<Violation>& violations) {
  const google::protobuf::Message* message = &root;
  const google::protobuf::FieldDescriptor* field = nullptr;
  for (absl::string_view name : absl::StrSplit(range.path, '.')) {
    if (field != nullptr) message = &message->GetReflection()->GetMessage(*message, field);
    field = message->GetDescriptor()->FindFieldByName(std::string(name));
    JEVONS_CHECK(field != nullptr, "the rules name a field that does not exist: %s", range.path);
  }
  const google::protobuf::Reflection& read = *message->GetReflection();
  const bool integer = field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_INT64;
  const double value = integer ? static_cast<double>(read.GetInt64(*message, field)) : read.GetDouble(*message, field);
  const std::string rule = absl::StrCat("must be from ", range.min, " to ", range.max);
  if (!read.HasField(*message, field) && !field->has_default_value()) {
    if (!range.optional) violations.push_back({prefix + range.path, "not set", rule, ""});
  } else if (!(value >= range.min && value <= range.max)) {
    const double nearest = std::isnan(value) ? range.min : std::clamp(value, range.min, range.max);
    violations.push_back({prefix + range.path, absl::StrCat(value), rule, absl::StrCat(nearest)});
  }
}

absl::Status FileStatus(const std::string& name, const std::vector<Violation>& violations) {
  if (violations.empty()) return absl::OkStatus();
  return UsageError(absl::StrJoin(violations, "\n", [&](std::string* out, const Violation& violation) {
    absl::StrAppend(out, name, ": ", violation.ToString());
  }));
}

}  // namespace jevons
