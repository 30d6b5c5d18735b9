#include "configs/differences.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace jevons {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Place = std::vector<int>;  // field numbers and indices: sorts as run.proto does

struct Leaf {
  std::string path, value;
};

// Every field of `message` that has a value; of an entry of a list only what it sets: for the rest another place decides.
void AddLeaves(const Message& message, bool entry, const std::string& path, const Place& place, std::map<Place, Leaf>& leaves) {
  for (int f = 0; f < message.GetDescriptor()->field_count(); ++f) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(f);
    const std::string name = path.empty() ? field.name() : absl::StrCat(path, ".", field.name());
    Place at = place;
    at.push_back(f);
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    if (field.is_repeated()) {  // all lists are of messages
      for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
        at.push_back(i);
        AddLeaves(reflection.GetRepeatedMessage(message, &field, i), true, absl::StrCat(name, "[", i, "]"), at, leaves);
        at.pop_back();
      }
    } else if (field.message_type() != nullptr) {
      if (!entry || reflection.HasField(message, &field))
        AddLeaves(reflection.GetMessage(message, &field), entry, name, at, leaves);
    } else if (reflection.HasField(message, &field) || field.has_default_value()) {
      std::string value;
      google::protobuf::TextFormat::PrintFieldValueToString(message, &field, -1, &value);
      leaves[at] = {name, value};
    }
  }
}

}  // namespace

std::string Differences(const google::protobuf::Message& before, const google::protobuf::Message& now) {
  std::string text;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&text);
  if (differencer.Compare(before, now)) return "";
  return absl::StrReplaceAll(absl::StripSuffix(text, "\n"), {{"\n", "; "}});
}

std::vector<FieldValues> DifferingFields(std::span<const RunConfig> configs) {
  std::map<Place, FieldValues> fields;
  for (size_t c = 0; c < configs.size(); ++c) {
    std::map<Place, Leaf> leaves;
    AddLeaves(configs[c], false, "", {}, leaves);
    for (auto& [place, leaf] : leaves) {
      FieldValues& field = fields[place];
      field.path = leaf.path;
      field.values.resize(configs.size());
      field.values[c] = std::move(leaf.value);
    }
  }
  std::vector<FieldValues> differing;
  for (auto& entry : fields) {
    FieldValues& field = entry.second;  // a name of its own: clang 14 lets no lambda see one of a structured binding
    const bool same =
        std::all_of(field.values.begin(), field.values.end(), [&](const std::string& value) { return value == field.values[0]; });
    if (!same && !absl::StartsWith(field.path, "run.")) differing.push_back(std::move(field));
  }
  return differing;
}

}  // namespace jevons
