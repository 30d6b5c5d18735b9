#include "configs/fields.h"

#include <google/protobuf/descriptor.pb.h>

#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/base/check.h"

namespace jevons {

extern const char kRunDescriptor[];  // a FileDescriptorSet with source info: CMakeLists.txt
extern const size_t kRunDescriptorSize;

namespace {

using google::protobuf::DescriptorProto;
using google::protobuf::EnumDescriptorProto;
using google::protobuf::FieldDescriptorProto;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using Place = std::vector<int>;  // of a declaration: field numbers and indices, as in SourceCodeInfo

// One line, whatever lines it was written in.
std::string OneLine(absl::string_view comment) {
  return absl::StrJoin(absl::StrSplit(comment, absl::ByAnyChar(" \n"), absl::SkipEmpty()), " ");
}

class Reader {
 public:
  explicit Reader(const FileDescriptorProto& file) : file_(file) {
    for (const auto& location : file.source_code_info().location())
      comments_[Place(location.path().begin(), location.path().end())] = {OneLine(location.leading_comments()),
                                                                          OneLine(location.trailing_comments())};
    for (int i = 0; i < file.message_type_size(); ++i) messages_[file.message_type(i).name()] = i;
    for (int i = 0; i < file.enum_type_size(); ++i) enums_[file.enum_type(i).name()] = i;
  }

  void AddGroup(const std::string& path, const std::string& message, std::vector<FieldGroup>& groups) const {
    const int m = messages_.at(message);
    const DescriptorProto& type = file_.message_type(m);
    FieldGroup group{path, comments_.at({FileDescriptorProto::kMessageTypeFieldNumber, m}).first, {}};
    std::vector<std::pair<std::string, std::string>> below;  // path, message
    for (int f = 0; f < type.field_size(); ++f) {
      const FieldDescriptorProto& field = type.field(f);
      const std::string at = path.empty() ? field.name() : absl::StrCat(path, ".", field.name());
      const bool list = field.label() == FieldDescriptorProto::LABEL_REPEATED;
      const bool nested = field.type() == FieldDescriptorProto::TYPE_MESSAGE;
      if (nested) below.emplace_back(list ? at + "[0]" : at, TypeName(field));
      if (nested && !list) continue;
      group.fields.push_back(Describe(
          field, at, list,
          comments_.at({FileDescriptorProto::kMessageTypeFieldNumber, m, DescriptorProto::kFieldFieldNumber, f}).second));
    }
    if (!group.fields.empty()) groups.push_back(std::move(group));
    for (const auto& [at, name] : below) AddGroup(at, name, groups);
  }

 private:
  static std::string TypeName(const FieldDescriptorProto& field) {
    return field.type_name().substr(field.type_name().rfind('.') + 1);
  }

  FieldDoc Describe(const FieldDescriptorProto& field, const std::string& path, bool list, const std::string& comment) const {
    FieldDoc doc;
    doc.path = path;
    doc.value = field.default_value();
    switch (field.type()) {
      case FieldDescriptorProto::TYPE_INT64: doc.type = "int64"; break;
      case FieldDescriptorProto::TYPE_UINT64: doc.type = "uint64"; break;
      case FieldDescriptorProto::TYPE_DOUBLE: doc.type = "double"; break;
      case FieldDescriptorProto::TYPE_BOOL: doc.type = "bool"; break;
      case FieldDescriptorProto::TYPE_STRING: doc.type = "string"; break;
      default: doc.type = (list ? "list of " : "") + TypeName(field);
    }
    if (field.type() == FieldDescriptorProto::TYPE_ENUM) AddChoices(TypeName(field), doc);
    const size_t semicolon = comment.find(';'), open = comment.rfind('[', semicolon), close = comment.find(']', open);
    doc.meaning = comment.substr(0, semicolon);
    if (semicolon != std::string::npos) doc.reason = std::string(absl::StripAsciiWhitespace(comment.substr(semicolon + 1)));
    if (open != std::string::npos && close != std::string::npos && close < semicolon) {
      doc.unit = comment.substr(open + 1, close - open - 1);
      doc.meaning =
          comment.substr(0, open) + comment.substr(close + 1, semicolon == std::string::npos ? semicolon : semicolon - close - 1);
    }
    doc.meaning = OneLine(doc.meaning);
    return doc;
  }

  void AddChoices(const std::string& name, FieldDoc& doc) const {
    const int e = enums_.at(name);
    const EnumDescriptorProto& type = file_.enum_type(e);
    for (int v = 0; v < type.value_size(); ++v) {
      const Place place = {FileDescriptorProto::kEnumTypeFieldNumber, e, EnumDescriptorProto::kValueFieldNumber, v};
      doc.choices.emplace_back(type.value(v).name(), comments_.at(place).second);
    }
  }

  const FileDescriptorProto& file_;
  std::map<Place, std::pair<std::string, std::string>> comments_;  // before, and behind
  std::map<std::string, int> messages_, enums_;
};

}  // namespace

std::vector<FieldGroup> RunFields() {
  FileDescriptorSet set;
  JEVONS_CHECK(set.ParseFromArray(kRunDescriptor, static_cast<int>(kRunDescriptorSize)) && set.file_size() == 1,
               "the description of run.proto in this program cannot be read");
  std::vector<FieldGroup> groups;
  Reader(set.file(0)).AddGroup("", "RunConfig", groups);
  return groups;
}

}  // namespace jevons
