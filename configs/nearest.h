// "Did you mean ...?": the legal name nearest to one that does not exist.
#ifndef JEVONS_CONFIGS_NEAREST_H_
#define JEVONS_CONFIGS_NEAREST_H_

#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace google::protobuf {
class Descriptor;
}

namespace jevons {

// Levenshtein distance: insertions, deletions and substitutions of bytes.
int EditDistance(absl::string_view a, absl::string_view b);

// The candidate nearest to `name`; "" when none is near enough to be meant (more than half of its letters
// differ).
std::string NearestName(absl::string_view name, std::span<const std::string> candidates);

// The names of a message's fields, in order of declaration.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& message);

// Every dotted path to a field below `message`: "model", "model.layers", ...
std::vector<std::string> FieldPaths(const google::protobuf::Descriptor& message);

// The path below `root` that is meant by `path`: one with the same last name if there is one, else the
// nearest.
std::string NearestPath(absl::string_view path, const google::protobuf::Descriptor& root);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_NEAREST_H_
