// What this program is: name, version, compiler, backends.
#ifndef JEVONS_LAUNCH_VERSION_H_
#define JEVONS_LAUNCH_VERSION_H_

#include <string>

namespace jevons {

// Three lines: "jevons 0.1.0 (1a2b3c4d5e)", "compiler ...", "backends ..."; the revision where the build knows it, "-dirty" where
// files differ from it. It goes into checkpoints as a label.
std::string VersionText();
// The same and "products ..." (this machine's kernels), "mpi ...", "cuda ...": `jevons version`.
std::string FullVersionText();

}  // namespace jevons

#endif  // JEVONS_LAUNCH_VERSION_H_
