// Text format with errors for people: every unknown name at once, each with the nearest legal one.
#ifndef JEVONS_CONFIGS_PARSE_ERRORS_H_
#define JEVONS_CONFIGS_PARSE_ERRORS_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace google::protobuf {
class EnumDescriptor;
class Message;
}  // namespace google::protobuf

namespace jevons {

// Parses `text` into `message`. A usage error has a line "name:line:column: what; remedy" per problem.
absl::Status ParseText(const std::string& text, const std::string& name, google::protobuf::Message& message);

// `did you mean "layers"?`, or, where nothing is near, `legal: hidden_size, layers, ...`.
std::string DidYouMean(const std::string& nearest, std::span<const std::string> legal);

std::vector<std::string> EnumNames(const google::protobuf::EnumDescriptor& type);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_PARSE_ERRORS_H_
