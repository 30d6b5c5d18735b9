// A folder that appears whole or not at all.
#ifndef JEVONS_TRAINER_FILES_STAGED_FOLDER_H_
#define JEVONS_TRAINER_FILES_STAGED_FOLDER_H_

#include <string>

#include "trainer/files/file_system.h"

namespace jevons {

// Files are put into path(), which is OUTPUT.partial; Commit makes it OUTPUT. Destroyed before, it removes what was written; what
// a killed process left there, the next one removes.
class StagedFolder {
 public:
  // UsageError where `output` exists and is not an empty folder.
  static absl::StatusOr<StagedFolder> Create(FileSystem& files, const std::string& output);
  StagedFolder(StagedFolder&& other) noexcept;
  StagedFolder& operator=(StagedFolder&&) = delete;
  ~StagedFolder();

  const std::string& path() const { return partial_; }
  absl::Status WriteText(const std::string& name, absl::string_view text);
  // Copies the file `from` as `name`.
  absl::Status Copy(const std::string& from, const std::string& name);
  absl::Status Commit();

 private:
  StagedFolder(FileSystem& files, std::string output);
  FileSystem* files_;  // null once committed or moved from
  std::string output_, partial_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_FILES_STAGED_FOLDER_H_
