// The dependency direction of the house, as rules over the preprocessor lines of a source file.
//
//   launch -> trainer -> parallel -> kernels -> kernels/base
//                |-> data, configs ----------------^
//
// Within kernels/ and trainer/ calls go down from stratum to stratum. Each folder has one list of what it may include.
#ifndef JEVONS_TESTS_SUPPORT_INCLUDE_RULES_H_
#define JEVONS_TESTS_SUPPORT_INCLUDE_RULES_H_

#include <string>
#include <vector>

namespace jevons {

// Every line of `text` that a file at `path` (from the repository root) may not hold, as "path:line: what;
// the rule".
std::vector<std::string> ArchitectureViolations(const std::string& path, const std::string& text);

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_INCLUDE_RULES_H_
