// The files that a corpus is read from: which they are, and what kind of text each holds.
#ifndef JEVONS_DATA_PREPARE_INPUT_FILES_H_
#define JEVONS_DATA_PREPARE_INPUT_FILES_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/prepare/byte_stream.h"

namespace jevons {

enum class TextFormat { kPlain, kJsonLines };

// The names of inputs, for messages and help.
inline constexpr char kInputNames[] = ".txt, or .jsonl, .json, .ndjson or .jl (JSON lines); .gz or .zst may follow";

struct InputFile {
  std::string path;
  TextFormat format;
  Compression compression;
};

// The format by the name's ending, in small letters or capitals; the compression by the file's first bytes. Usage error that
// lists the endings for any other; integrity error for a file that cannot be opened, for one that is compressed by its
// name only, and for one that is something else altogether (kernels/base/foreign_file.h).
absl::StatusOr<InputFile> InputFileFor(const std::string& path);

// The files that `inputs` name, in order: a file is itself; a folder is all files below it that have an input's name, in the
// order of their paths, without hidden ones (a warning says which others were left out); where there is no such file, what
// the pattern (*, ?, [...]) matches, likewise. Integrity error if a folder or a pattern gives none.
absl::StatusOr<std::vector<std::string>> ExpandInputs(std::span<const std::string> inputs);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_INPUT_FILES_H_
