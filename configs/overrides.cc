#include "configs/overrides.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "configs/nearest.h"
#include "configs/parse_errors.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Where an assignment points: `field` of `parent`, at `index` of a list (none: the whole field).
struct Target {
  Message* parent = nullptr;
  const FieldDescriptor* field = nullptr;
  std::optional<int> index;
};

// One name of a path, "mixture" or "mixture[0]".
struct Segment {
  absl::string_view name;
  std::optional<int> index;
};

absl::StatusOr<Segment> ParseSegment(absl::string_view text) {
  const size_t bracket = text.find('[');
  if (bracket == absl::string_view::npos) return Segment{text, std::nullopt};
  int index = 0;
  const absl::string_view digits = text.substr(bracket + 1, text.size() - bracket - 2);
  if (text.back() != ']' || !absl::SimpleAtoi(digits, &index) || index < 0) {
    return UsageError(absl::StrFormat("\"%s\" is not a list entry; write name[0], name[1], ...", text));
  }
  return Segment{text.substr(0, bracket), index};
}

// The entry `index` of a list; one past the end appends.
absl::StatusOr<Message*> ListEntry(Message& parent, const FieldDescriptor& field, int index) {
  const int size = parent.GetReflection()->FieldSize(parent, &field);
  if (index > size) {
    return UsageError(absl::StrFormat("%s has %d entries; the nearest index is %d", field.name(), size, size));
  }
  return index < size ? parent.GetReflection()->MutableRepeatedMessage(&parent, &field, index)
                      : parent.GetReflection()->AddMessage(&parent, &field);
}

absl::StatusOr<Target> Resolve(const std::string& path, Message& root) {
  Target target{&root, nullptr, std::nullopt};
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    JEVONS_ASSIGN_OR_RETURN(const Segment segment, ParseSegment(names[i]));
    const Descriptor& message = *target.parent->GetDescriptor();
    target.field = message.FindFieldByName(std::string(segment.name));
    if (target.field == nullptr) {
      return UsageError(absl::StrFormat("%s has no field \"%s\"; %s", message.name(), segment.name,
                                        DidYouMean(NearestPath(path, *root.GetDescriptor()), FieldNames(message))));
    }
    target.index = segment.index;
    const bool last = i + 1 == names.size();
    if (segment.index.has_value() && !target.field->is_repeated()) {
      return UsageError(absl::StrFormat("%s is no list; leave the index out", target.field->name()));
    }
    if (last) break;
    if (target.field->message_type() == nullptr) {
      return UsageError(absl::StrFormat("%s is a value and has no fields", target.field->name()));
    }
    if (!target.field->is_repeated()) {
      target.parent = target.parent->GetReflection()->MutableMessage(target.parent, target.field);
    } else if (segment.index.has_value()) {
      JEVONS_ASSIGN_OR_RETURN(target.parent, ListEntry(*target.parent, *target.field, *segment.index));
    } else {
      return UsageError(absl::StrFormat("%s is a list; name an entry: %s[0]", target.field->name(), target.field->name()));
    }
  }
  return target;
}

absl::Status ExpectedError(const FieldDescriptor& field, const std::string& value, const char* expected) {
  return UsageError(absl::StrFormat("%s = \"%s\" is not %s", field.name(), value, expected));
}

absl::Status SetEnum(const std::string& value, const Target& target) {
  const EnumDescriptor& type = *target.field->enum_type();
  if (const auto* named = type.FindValueByName(value); named != nullptr) {
    target.parent->GetReflection()->SetEnum(target.parent, target.field, named);
    return absl::OkStatus();
  }
  const std::vector<std::string> names = EnumNames(type);
  return UsageError(
      absl::StrFormat("%s has no value \"%s\"; %s", target.field->name(), value, DidYouMean(NearestName(value, names), names)));
}

// A number, bool, string or enum that is not in a list.
absl::Status SetScalar(const std::string& value, const Target& target) {
  Message* parent = target.parent;
  const FieldDescriptor* field = target.field;
  const auto* reflection = parent->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t number = 0;
      if (!absl::SimpleAtoi(value, &number)) return ExpectedError(*field, value, "a whole number of 64 bits");
      reflection->SetInt64(parent, field, number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t number = 0;
      if (!absl::SimpleAtoi(value, &number)) return ExpectedError(*field, value, "a whole number from 0 to 2^64-1");
      reflection->SetUInt64(parent, field, number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double number = 0;
      if (!absl::SimpleAtod(value, &number)) return ExpectedError(*field, value, "a number");
      reflection->SetDouble(parent, field, number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool truth = false;
      if (!absl::SimpleAtob(value, &truth)) return ExpectedError(*field, value, "true or false");
      reflection->SetBool(parent, field, truth);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_STRING: reflection->SetString(parent, field, value); return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_ENUM: return SetEnum(value, target);
    default: return UsageError(absl::StrFormat("%s cannot be set from the command line", field->name()));
  }
}

// A message or a list: text format, parsed on its own so that nothing but this field can be named in it.
absl::Status SetFromText(const std::string& value, const std::string& path, const Target& target) {
  const bool entry = target.index.has_value();
  const std::unique_ptr<Message> parsed(target.parent->New());
  if (!value.empty() || entry) {
    JEVONS_RETURN_IF_ERROR(ParseText(absl::StrFormat("%s: %s", target.field->name(), value), path, *parsed));
  }
  std::vector<const FieldDescriptor*> fields;
  parsed->GetReflection()->ListFields(*parsed, &fields);
  if (fields.size() > 1 || (entry && parsed->GetReflection()->FieldSize(*parsed, target.field) != 1)) {
    return UsageError(absl::StrFormat("\"%s\" is more than a value of %s", value, target.field->name()));
  }
  if (entry) {
    JEVONS_ASSIGN_OR_RETURN(Message * to, ListEntry(*target.parent, *target.field, *target.index));
    to->CopyFrom(parsed->GetReflection()->GetRepeatedMessage(*parsed, target.field, 0));
  } else {
    target.parent->GetReflection()->ClearField(target.parent, target.field);
    target.parent->MergeFrom(*parsed);
  }
  return absl::OkStatus();
}

absl::Status Apply(const std::string& path, const std::string& value, Message& config) {
  JEVONS_ASSIGN_OR_RETURN(const Target target, Resolve(path, config));
  const bool structured = target.field->is_repeated() || target.field->message_type() != nullptr;
  return structured ? SetFromText(value, path, target) : SetScalar(value, target);
}

}  // namespace

absl::Status ApplyOverride(const std::string& assignment, Message& config) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return UsageError(absl::StrFormat("--set %s: write --set path=value, as in --set model.layers=8", assignment));
  }
  const std::unique_ptr<Message> changed(config.New());
  changed->CopyFrom(config);
  const absl::Status status = Apply(assignment.substr(0, equals), assignment.substr(equals + 1), *changed);
  if (!status.ok()) return Annotate(status, "--set " + assignment);
  config.CopyFrom(*changed);
  return absl::OkStatus();
}

}  // namespace jevons
