#include "tests/support/paths.h"

namespace jevons {

// The one file that is compiled for its place: all others are the same in every clone, which the compiler's cache sees.
std::string SourcePath(const std::string& relative) { return JEVONS_SOURCE_DIR "/" + relative; }
std::string BinaryPath(const std::string& relative) { return JEVONS_BINARY_DIR "/" + relative; }

}  // namespace jevons
