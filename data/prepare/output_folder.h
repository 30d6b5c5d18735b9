// A folder of files that appears at once or not at all: it is filled as PATH.partial, beside its place, and
// renamed.
#ifndef JEVONS_DATA_PREPARE_OUTPUT_FOLDER_H_
#define JEVONS_DATA_PREPARE_OUTPUT_FOLDER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace jevons {

enum class Overwrite { kNo, kYes };

class OutputFolder {
 public:
  // Usage error if `path` is a file, or a folder that holds anything: unless that is a dataset, nothing but a
  // dataset, and Overwrite::kYes. Also if another process is filling PATH.partial now; what a dead one left
  // is removed.
  static absl::StatusOr<OutputFolder> Create(const std::string& path, Overwrite overwrite);
  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&&) = delete;
  ~OutputFolder();  // without a Commit, removes what was written

  // Where to write the files of a dataset, and no others.
  const std::string& staging() const { return staging_; }

  // Puts the staged folder in place, instead of the old dataset if there was one, durably. The files must be
  // synced.
  absl::Status Commit();

 private:
  OutputFolder(std::string path, std::string staging, int lock)
      : path_(std::move(path)), staging_(std::move(staging)), lock_(lock) {}

  std::string path_;
  std::string staging_;
  int lock_;  // a descriptor of the staged folder with a lock on it; -1 when this owns nothing
};

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_OUTPUT_FOLDER_H_
