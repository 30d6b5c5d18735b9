// The one-definition rule over the text of all source files. Neither compiler nor linker reports two classes, or two inline
// functions, of one name: the linker keeps one of two bodies without a word, and which one depends on the order of its input.
#ifndef JEVONS_TESTS_SUPPORT_ONE_DEFINITION_H_
#define JEVONS_TESTS_SUPPORT_ONE_DEFINITION_H_

#include <string>
#include <vector>

namespace jevons {

struct SourceFile {
  std::string path;  // from the repository root
  std::string text;
};

// Every name that two of `files` define at namespace scope, as "a.h:3 and b.h:5 define jevons::Name". Names count by namespace,
// functions also by the types of their parameters. What has internal linkage does not count, nor do constants and aliases of a
// .cc file, nor the plain functions of two .cc files: their clash ends the link, and where only one of the files is built there
// is none. A message or enum of a .proto file counts as the class made of it. Preprocessor lines and macros are not expanded.
std::vector<std::string> NamesDefinedTwice(const std::vector<SourceFile>& files);

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_ONE_DEFINITION_H_
