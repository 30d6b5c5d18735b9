// Keeps other runs out of a run's folder.
#ifndef JEVONS_TRAINER_FILES_FOLDER_LOCK_H_
#define JEVONS_TRAINER_FILES_FOLDER_LOCK_H_

#include <string>

#include "absl/status/status.h"

namespace jevons {

class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();
  // UsageError where another process holds it for some seconds on end.
  absl::Status Take(const std::string& folder);

 private:
  int handle_ = -1;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_FILES_FOLDER_LOCK_H_
