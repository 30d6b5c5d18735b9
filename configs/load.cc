#include "configs/load.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "configs/overrides.h"
#include "configs/parse_errors.h"
#include "configs/text_file.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void SetDefault(const Reflection& reflection, const FieldDescriptor& field, Message& message) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64: return reflection.SetInt64(&message, &field, reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64: return reflection.SetUInt64(&message, &field, reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE: return reflection.SetDouble(&message, &field, reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL: return reflection.SetBool(&message, &field, reflection.GetBool(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM: return reflection.SetEnum(&message, &field, reflection.GetEnum(message, &field));
    case FieldDescriptor::CPPTYPE_STRING: return reflection.SetString(&message, &field, reflection.GetString(message, &field));
    default: JEVONS_CHECK(false, "%s: a type that no field of a run has", field.full_name().c_str());
  }
}

// Sets every field that has a default to what reading it gives. In an entry of a list a message that is not there says something: it is
// not made.
void FillDefaults(Message& message, bool entry = false) {
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.is_repeated()) {
      for (int k = 0; field.message_type() != nullptr && k < reflection.FieldSize(message, &field); ++k) {
        FillDefaults(*reflection.MutableRepeatedMessage(&message, &field, k), /*entry=*/true);
      }
    } else if (field.message_type() != nullptr) {
      if (!entry || reflection.HasField(message, &field)) FillDefaults(*reflection.MutableMessage(&message, &field));
    } else if (field.has_default_value()) {
      SetDefault(reflection, field, message);
    }
  }
}

}  // namespace

absl::StatusOr<RunConfig> ParseRunConfig(const std::string& text, const std::string& name,
                                         std::span<const std::string> overrides) {
  RunConfig config;
  std::vector<std::string> problems;
  if (const absl::Status status = ParseText(text, name, config); !status.ok()) {
    problems.emplace_back(status.message());
  }
  for (const std::string& assignment : overrides) {
    const absl::Status status = ApplyOverride(assignment, config);
    if (!status.ok()) problems.emplace_back(status.message());
  }
  if (!problems.empty()) return UsageError(absl::StrJoin(problems, "\n"));
  return config;
}

absl::StatusOr<RunConfig> LoadRunConfig(const std::string& path, std::span<const std::string> overrides) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text,
                          ReadTextFile(path, "a run config, such as configs/presets/quickstart_cpu.textproto"));
  if (absl::StripAsciiWhitespace(text).empty())
    return UsageError(
        absl::StrFormat("%s: the file is empty; name a run config, such as configs/presets/quickstart_cpu.textproto", path));
  return ParseRunConfig(text, path, overrides);
}

std::string ResolvedText(const RunConfig& config) {
  RunConfig resolved = config;
  FillDefaults(resolved);
  std::string text;
  JEVONS_CHECK(google::protobuf::TextFormat::PrintToString(resolved, &text), "printing a run failed");
  return text;
}

}  // namespace jevons
