// Files that stand where another kind was expected, known by their first bytes or their name: what to say instead of an error
// about the format that they never had.
#ifndef JEVONS_KERNELS_BASE_FOREIGN_FILE_H_
#define JEVONS_KERNELS_BASE_FOREIGN_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace jevons {

// As many bytes from the front of a file are enough to tell.
inline constexpr size_t kForeignFileBytes = 64;

// "._name": what macOS keeps of a file's metadata on disks and in archives that have no place for it (AppleDouble).
bool IsAppleDoubleName(absl::string_view path);

// What the file is and the remedy, for "PATH: is ..."; empty if it is none of the known kinds. Known are Git LFS pointers
// (what a clone without git-lfs has for a large file), AppleDouble files, archives and compressed files, Parquet and Arrow, HDF5, PDF, and text in UTF-16 or UTF-32. `front` is the
// file's first kForeignFileBytes bytes, or all of a shorter one.
std::string ForeignFileKind(absl::string_view path, absl::string_view front);

// Integrity error "PATH: is ..." for a file of one of those kinds.
absl::Status RefuseForeignFile(absl::string_view path, absl::string_view front);

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_FOREIGN_FILE_H_
