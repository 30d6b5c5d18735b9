#include "launch/version.h"

#include "absl/strings/str_cat.h"

namespace jevons {

std::string VersionText() {
  return absl::StrCat("jevons ", JEVONS_VERSION, "\ncompiler ", JEVONS_COMPILER, "\nbackends ",
                      JEVONS_BACKENDS);
}

}  // namespace jevons
