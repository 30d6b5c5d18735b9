#include "configs/nearest.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace jevons {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr size_t kLongestName = 256;  // beyond, nothing was mistyped; and the distance costs a product of lengths

void AppendPaths(const Descriptor& message, const std::string& prefix, std::vector<std::string>& paths) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    paths.push_back(prefix + field.name());
    if (field.message_type() != nullptr) AppendPaths(*field.message_type(), paths.back() + ".", paths);
  }
}

}  // namespace

int EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<int> row(b.size() + 1);  // row[j] = distance between a's first i bytes and b's first j
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = std::exchange(row[0], static_cast<int>(i) + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const int substituted = diagonal + (a[i] != b[j]);
      diagonal = std::exchange(row[j + 1], std::min({substituted, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row[b.size()];
}

std::string NearestName(absl::string_view name, std::span<const std::string> candidates) {
  if (name.size() > kLongestName) return "";
  std::string nearest;
  int least = static_cast<int>(name.size()) / 2 + 1;
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::vector<std::string> FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

std::vector<std::string> FieldPaths(const Descriptor& message) {
  std::vector<std::string> paths;
  AppendPaths(message, "", paths);
  return paths;
}

std::string NearestPath(absl::string_view path, const Descriptor& root) {
  const std::vector<std::string> paths = FieldPaths(root);
  const absl::string_view last = path.substr(path.rfind('.') + 1);  // npos + 1 = 0: the whole path
  std::vector<std::string> same_name;
  for (const std::string& candidate : paths) {
    if (candidate == last || absl::EndsWith(candidate, absl::StrCat(".", last))) same_name.push_back(candidate);
  }
  if (same_name.size() == 1) return same_name[0];
  const std::string nearest = NearestName(path, same_name.empty() ? paths : same_name);
  return nearest.empty() && !same_name.empty() ? same_name[0] : nearest;
}

}  // namespace jevons
