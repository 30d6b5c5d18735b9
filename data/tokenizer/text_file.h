// Whole small files: read, and written so that a crash leaves the old one or the new one.
#ifndef JEVONS_DATA_TOKENIZER_TEXT_FILE_H_
#define JEVONS_DATA_TOKENIZER_TEXT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace jevons {

// Usage error if it is not a regular file; integrity error if it is missing or cannot be opened, is larger than
// `max_bytes`, or of another kind altogether (kernels/base/foreign_file.h).
absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes);

// Writes PATH.partial, syncs it, renames it to PATH and syncs the folder.
absl::Status WriteTextFile(const std::string& path, absl::string_view contents);

// Syncs a folder, so that the names in it survive a crash.
absl::Status SyncFolder(const std::string& path);

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_TEXT_FILE_H_
