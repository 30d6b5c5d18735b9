#include "data/prepare/output_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "data/prepare/dataset_info.h"
#include "data/tokenizer/text_file.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFiles[] = {kTokenizerFile, kDatasetInfoFile, "train.bin",      "train.idx",
                                  "train.sums",   "validation.bin", "validation.idx", "validation.sums"};
constexpr absl::string_view kPartial = ".partial";  // the suffix of a file that is being written

// The names in a folder; empty if there is no such folder.
std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The first name in the folder that no dataset has; empty if there is none.
std::string Foreign(const std::string& folder) {
  for (const std::string& name : Names(folder)) {
    const absl::string_view stem = absl::StripSuffix(name, kPartial);
    if (std::find(std::begin(kFiles), std::end(kFiles), stem) == std::end(kFiles)) return name;
  }
  return "";
}

// Removes a folder that Foreign finds nothing in.
void RemoveDataset(const std::string& folder) {
  for (const std::string& name : Names(folder)) ::unlink((folder + "/" + name).c_str());
  ::rmdir(folder.c_str());
}

absl::Status SystemError(const std::string& path, absl::string_view action) {
  return FailureError(absl::StrFormat("%s: cannot %s: %s", path, action, std::strerror(errno)));
}

absl::Status CheckTarget(const std::string& path, Overwrite overwrite) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return absl::OkStatus();
  if (status.type() != fs::file_type::directory) {
    return UsageError(absl::StrFormat("output %s: is there already and is not a folder", path));
  }
  const std::vector<std::string> names = Names(path);
  if (names.empty()) return absl::OkStatus();
  const std::string foreign = Foreign(path);
  if (!foreign.empty() || !std::binary_search(names.begin(), names.end(), kDatasetInfoFile)) {
    return UsageError(
        absl::StrFormat("output %s: the folder is not empty and not just a dataset (it holds \"%s\"); "
                        "choose another or empty it",
                        path, foreign.empty() ? names[0] : foreign));
  }
  if (overwrite == Overwrite::kNo) {
    return UsageError(absl::StrFormat("output %s: already holds a dataset; ask to overwrite it, or choose another", path));
  }
  return absl::OkStatus();
}

// Makes and locks the staged folder; returns the descriptor that holds the lock.
absl::StatusOr<int> LockStaging(const std::string& staging) {
  if (::mkdir(staging.c_str(), 0755) != 0 && errno != EEXIST) return SystemError(staging, "create the folder");
  const int lock = ::open(staging.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock < 0) return SystemError(staging, "open the folder");
  absl::Status status;
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    status = UsageError(absl::StrFormat("%s: another process is preparing this output now", staging));
  } else if (const std::string foreign = Foreign(staging); !foreign.empty()) {
    status =
        UsageError(absl::StrFormat("%s: is in the way and holds \"%s\", which no dataset has; move it away", staging, foreign));
  }
  if (status.ok()) return lock;
  ::close(lock);
  return status;
}

}  // namespace

absl::StatusOr<OutputFolder> OutputFolder::Create(const std::string& given, Overwrite overwrite) {
  std::error_code error;
  const fs::path path = fs::absolute(given, error).lexically_normal();
  const std::string target = path.has_filename() ? path.string() : path.parent_path().string();
  if (error || target == "/") return UsageError(absl::StrFormat("output \"%s\": name a folder", given));
  JEVONS_RETURN_IF_ERROR(CheckTarget(target, overwrite));
  fs::create_directories(fs::path(target).parent_path(), error);
  if (error) {
    return FailureError(absl::StrFormat("output %s: cannot create its parent folder: %s", given, error.message()));
  }
  const std::string staging = target + ".partial";
  JEVONS_ASSIGN_OR_RETURN(const int lock, LockStaging(staging));
  for (const std::string& name : Names(staging)) ::unlink((staging + "/" + name).c_str());
  return OutputFolder(target, staging, lock);
}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : path_(std::move(other.path_)), staging_(std::move(other.staging_)), lock_(std::exchange(other.lock_, -1)) {}

OutputFolder::~OutputFolder() {
  if (lock_ < 0) return;
  RemoveDataset(staging_);
  ::close(lock_);
}

absl::Status OutputFolder::Commit() {
  JEVONS_RETURN_IF_ERROR(SyncFolder(staging_));
  // An empty folder, or none, is replaced by the rename; a dataset changes places with the staged one in one
  // step, where the file system can, and is removed by the destructor.
  if (std::rename(staging_.c_str(), path_.c_str()) == 0) {
    ::close(std::exchange(lock_, -1));
  } else if (errno != ENOTEMPTY && errno != EEXIST) {
    return SystemError(path_, "rename " + staging_ + " to it");
  } else if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) return SystemError(path_, "replace the old dataset");
    RemoveDataset(path_);
    if (std::rename(staging_.c_str(), path_.c_str()) != 0) return SystemError(path_, "rename " + staging_ + " to it");
    ::close(std::exchange(lock_, -1));
  }
  return SyncFolder(fs::path(path_).parent_path().string());
}

}  // namespace jevons
