#include "trainer/files/staged_folder.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "trainer/files/hf_files.h"

namespace jevons {
namespace {

// "a/b" for "a/b/": a name beside it must not fall inside.
std::string WithoutTrailingSlash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

StagedFolder::StagedFolder(FileSystem& files, std::string output)
    : files_(&files), output_(std::move(output)), partial_(output_ + ".partial") {}

StagedFolder::StagedFolder(StagedFolder&& other) noexcept
    : files_(std::exchange(other.files_, nullptr)), output_(other.output_), partial_(other.partial_) {}

absl::StatusOr<StagedFolder> StagedFolder::Create(FileSystem& files, const std::string& output) {
  const std::string path = WithoutTrailingSlash(output);
  if (path.empty()) return UsageError("--output is empty; name a folder");
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (info && !info->is_directory) return UsageError(path + ": is a file; choose another --output");
  if (info) {
    JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
    if (!names.empty()) return UsageError(path + ": exists and is not empty; choose another --output");
  }
  JEVONS_RETURN_IF_ERROR(RemoveTree(files, path + ".partial"));
  StagedFolder folder(files, path);
  JEVONS_RETURN_IF_ERROR(MakeDirectories(files, folder.partial_));
  return folder;
}

StagedFolder::~StagedFolder() {
  if (files_ == nullptr) return;
  if (const absl::Status removed = RemoveTree(*files_, partial_); !removed.ok()) LogWarning(std::string(removed.message()));
}

absl::Status StagedFolder::WriteText(const std::string& name, absl::string_view text) {
  const std::string path = JoinPath(partial_, name);
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files_->Open(path, OpenMode::kWrite));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(text.data(), text.size())), path));
  JEVONS_RETURN_IF_ERROR(file->Fsync());
  return file->Close();
}

absl::Status StagedFolder::Copy(const std::string& from, const std::string& name) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(*files_, from));
  return WriteText(name, text);
}

absl::Status StagedFolder::Commit() {
  JEVONS_RETURN_IF_ERROR(files_->SyncDirectory(partial_));
  JEVONS_RETURN_IF_ERROR(files_->Rename(partial_, output_));
  FileSystem& files = *std::exchange(files_, nullptr);
  return files.SyncDirectory(ParentPath(output_));
}

}  // namespace jevons
