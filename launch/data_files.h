// The files that come with the program: configs/ with presets, tables of clusters and published figures.
#ifndef JEVONS_LAUNCH_DATA_FILES_H_
#define JEVONS_LAUNCH_DATA_FILES_H_

#include <string>

#include "absl/status/statusor.h"

namespace jevons {

// The folder "configs" that belongs to this program: PREFIX/share/jevons/configs of an installed PREFIX/bin/jevons, the
// source folder's of build/jevons, otherwise that of the current folder. A usage error that names these where none is there.
absl::StatusOr<std::string> ConfigsFolder();

// What a command line means by `path`: the file itself where it exists; for configs/... otherwise the one that comes with
// the program. Where neither exists, `path`, so that the error names what was asked for.
std::string FindFile(const std::string& path);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_DATA_FILES_H_
