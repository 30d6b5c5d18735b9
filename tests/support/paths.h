// Where the checkout and the build that a test belongs to lie.
#ifndef JEVONS_TESTS_SUPPORT_PATHS_H_
#define JEVONS_TESTS_SUPPORT_PATHS_H_

#include <string>

namespace jevons {

// The absolute path of a file or folder of the checkout: SourcePath("configs/presets").
std::string SourcePath(const std::string& relative);

// The same below the build folder: BinaryPath("jevons").
std::string BinaryPath(const std::string& relative);

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_PATHS_H_
