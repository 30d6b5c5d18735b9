// What this program is: name, version, compiler, backends.
#ifndef JEVONS_LAUNCH_VERSION_H_
#define JEVONS_LAUNCH_VERSION_H_

#include <string>

namespace jevons {

std::string VersionText();  // three lines: "jevons 0.1.0", "compiler ...", "backends ..."

}  // namespace jevons

#endif  // JEVONS_LAUNCH_VERSION_H_
