#include "data/prepare/input_files.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "kernels/base/foreign_file.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNamed = 5;  // files in a warning

struct NameParts {
  std::optional<TextFormat> format;
  bool compressed = false;
};

NameParts PartsOf(const std::string& path) {
  const std::string lower = absl::AsciiStrToLower(path);
  absl::string_view stem = lower;
  NameParts parts;
  for (const char* ending : {".zst", ".zstd", ".gz"}) {
    if (absl::ConsumeSuffix(&stem, ending)) {
      parts.compressed = true;
      break;
    }
  }
  if (absl::EndsWith(stem, ".txt")) parts.format = TextFormat::kPlain;
  for (const char* ending : {".jsonl", ".json", ".ndjson", ".jl"}) {
    if (absl::EndsWith(stem, ending)) parts.format = TextFormat::kJsonLines;
  }
  return parts;
}

absl::Status AddFolder(const std::string& folder, std::vector<std::string>& files) {
  std::vector<std::string> found, others;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string path = it->path().string();
    if (absl::StartsWith(it->path().filename().string(), ".")) {
      if (it->is_directory()) it.disable_recursion_pending();
    } else if (it->is_regular_file()) {
      (PartsOf(path).format ? found : others).push_back(path);
    }
  }
  if (error) return IntegrityError(absl::StrFormat("%s: cannot list the folder: %s", folder, error.message()));
  if (found.empty())
    return IntegrityError(absl::StrFormat("%s: the folder has no file whose name ends in %s", folder, kInputNames));
  std::sort(found.begin(), found.end());
  std::sort(others.begin(), others.end());
  if (!others.empty()) {
    const size_t shown = std::min(others.size(), kMostNamed);
    LogWarning(absl::StrFormat("%s: %d files have no input's name and are left out: %s%s", folder, others.size(),
                               absl::StrJoin(others.begin(), others.begin() + shown, ", "),
                               shown < others.size() ? ", ..." : ""));
  }
  files.insert(files.end(), found.begin(), found.end());
  return absl::OkStatus();
}

absl::Status AddPath(const std::string& path, std::vector<std::string>& files) {
  std::error_code error;
  if (fs::is_directory(path, error)) return AddFolder(path, files);
  files.push_back(path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<InputFile> InputFileFor(const std::string& path) {
  const NameParts parts = PartsOf(path);
  if (!parts.format) return UsageError(absl::StrFormat("%s: unknown kind of input; the name must end in %s", path, kInputNames));
  JEVONS_ASSIGN_OR_RETURN(const std::string front, FileFront(path, kForeignFileBytes));
  const Compression compression = CompressionOf(front);
  if (compression == Compression::kNone) {
    JEVONS_RETURN_IF_ERROR(RefuseForeignFile(path, front));
    if (parts.compressed) {
      return IntegrityError(
          absl::StrFormat("%s: %s, though its name says that it is compressed; get the file again, or rename it", path,
                          front.empty() ? "is empty" : "is neither gzip nor zstd"));
    }
  }
  return InputFile{path, *parts.format, compression};
}

absl::StatusOr<std::vector<std::string>> ExpandInputs(std::span<const std::string> inputs) {
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    std::error_code error;
    if (fs::exists(input, error) || input.find_first_of("*?[") == std::string::npos) {
      JEVONS_RETURN_IF_ERROR(AddPath(input, files));
      continue;
    }
    glob_t found = {};
    const int result = ::glob(input.c_str(), GLOB_ERR, nullptr, &found);
    std::vector<std::string> matches(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    if (result != 0) return IntegrityError(absl::StrFormat("%s: no file has such a name", input));
    std::sort(matches.begin(), matches.end());  // glob's own order depends on the locale
    for (const std::string& match : matches) JEVONS_RETURN_IF_ERROR(AddPath(match, files));
  }
  return files;
}

}  // namespace jevons
