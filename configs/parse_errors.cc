#include "configs/parse_errors.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "configs/nearest.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// The quoted words of a message: a "b" c "d" -> {b, d}.
std::vector<std::string> Quoted(const std::string& message) {
  const std::vector<std::string> parts = absl::StrSplit(message, '"');
  std::vector<std::string> words;
  for (size_t i = 1; i < parts.size(); i += 2) words.push_back(parts[i]);
  return words;
}

// "layers" where the text up to a column ends in `layers: ` or `layers {`; "" if in neither.
std::string FieldBefore(absl::string_view line) {
  const size_t end = line.find_last_of(":{");
  if (end == absl::string_view::npos) return "";
  const absl::string_view head = absl::StripTrailingAsciiWhitespace(line.substr(0, end));
  return std::string(head.substr(head.find_last_of(" \t{}[],;") + 1));
}

// Turns protobuf's remarks into lines for the user. Unknown fields come as warnings, because the parser is
// told to go on.
class Errors : public google::protobuf::io::ErrorCollector {
 public:
  Errors(const std::string& text, const std::string& name, const Descriptor& root)
      : lines_(absl::StrSplit(text, '\n')), name_(name), root_(root) {}

  void AddError(int line, int column, const std::string& message) override {
    problems_.push_back(absl::StrFormat("%s:%d:%d: %s", name_, line + 1, column + 1, Explain(line, column, message)));
  }
  void AddWarning(int line, int column, const std::string& message) override { AddError(line, column, message); }

  const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::string Explain(int line, int column, const std::string& message) const {
    const std::vector<std::string> words = Quoted(message);
    if (words.size() == 2 && absl::StrContains(message, "has no field named")) {
      const Descriptor* type = root_.file()->pool()->FindMessageTypeByName(words[0]);
      if (type != nullptr) return UnknownField(*type, words[1]);
    }
    if (words.size() == 2 && absl::StartsWith(message, "Unknown enumeration value")) {
      const std::string path = NearestPath(words[1], root_);
      if (const FieldDescriptor* field = FindPath(path); field != nullptr && field->enum_type() != nullptr) {
        const std::vector<std::string> names = EnumNames(*field->enum_type());
        return absl::StrFormat("%s has no value \"%s\"; %s", words[1], words[0], DidYouMean(NearestName(words[0], names), names));
      }
    }
    const bool inside = line >= 0 && line < static_cast<int>(lines_.size());
    const std::string field = inside ? FieldBefore(absl::string_view(lines_[line]).substr(0, column)) : "";
    return field.empty() ? message : absl::StrFormat("field %s: %s", field, message);
  }

  std::string UnknownField(const Descriptor& message, const std::string& name) const {
    const std::string elsewhere = NearestPath(name, root_);
    if (absl::EndsWith(elsewhere, "." + name)) {
      return absl::StrFormat("%s has no field \"%s\"; it belongs to %s", message.name(), name,
                             elsewhere.substr(0, elsewhere.rfind('.')));
    }
    const std::vector<std::string> names = FieldNames(message);
    return absl::StrFormat("%s has no field \"%s\"; %s", message.name(), name, DidYouMean(NearestName(name, names), names));
  }

  const FieldDescriptor* FindPath(const std::string& path) const {
    const Descriptor* message = &root_;
    const FieldDescriptor* field = nullptr;
    for (absl::string_view name : absl::StrSplit(path, '.')) {
      field = message == nullptr ? nullptr : message->FindFieldByName(std::string(name));
      if (field == nullptr) return nullptr;
      message = field->message_type();
    }
    return field;
  }

  std::vector<std::string> lines_;
  std::string name_;
  const Descriptor& root_;
  std::vector<std::string> problems_;
};

}  // namespace

absl::Status ParseText(const std::string& text, const std::string& name, google::protobuf::Message& message) {
  Errors errors(text, name, *message.GetDescriptor());
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.AllowUnknownField(true);  // reads on after one, so that all are found; they are errors all the same
  parser.SetRecursionLimit(32);
  const bool parsed = parser.ParseFromString(text, &message);
  if (parsed && errors.problems().empty()) return absl::OkStatus();
  if (errors.problems().empty()) return UsageError(name + ": not a text-format message");
  return UsageError(absl::StrJoin(errors.problems(), "\n"));
}

std::string DidYouMean(const std::string& nearest, std::span<const std::string> legal) {
  return nearest.empty() ? "legal: " + absl::StrJoin(legal, ", ") : "did you mean \"" + nearest + "\"?";
}

std::vector<std::string> EnumNames(const google::protobuf::EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return names;
}

}  // namespace jevons
