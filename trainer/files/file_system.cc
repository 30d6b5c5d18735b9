#include "trainer/files/file_system.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace jevons {
namespace {

const char* RemedyFor(int error_number) {
  switch (error_number) {
    case ENOSPC: return "free space on that disk or write the run elsewhere";
    case EDQUOT: return "your quota there is used up: free space or write the run elsewhere";
    case EROFS: return "that disk is mounted read-only: write the run elsewhere";
    case EACCES:
    case EPERM: return "check the owner and the permissions of the folder";
    case EMFILE:
    case ENFILE: return "too many open files: raise `ulimit -n`";
    case ENOENT: return "check the path";
    case EIO: return "the disk fails: look at the system's log and write the run elsewhere";
    default: return "check the disk and the path";
  }
}

}  // namespace

absl::Status DiskError(const std::string& path, absl::string_view action, int error_number) {
  return FailureError(
      absl::StrFormat("%s: cannot %s: %s; %s", path, action, std::strerror(error_number), RemedyFor(error_number)));
}

absl::Status WriteAll(File& file, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    JEVONS_ASSIGN_OR_RETURN(const int64_t written, file.Write(bytes));
    if (written <= 0) return DiskError(path, "write", ENOSPC);  // POSIX leaves 0 open: a disk that takes nothing is full
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status ReadExactly(File& file, int64_t offset, std::span<std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    JEVONS_ASSIGN_OR_RETURN(const int64_t read, file.PRead(offset, bytes));
    if (read == 0) {
      return IntegrityError(absl::StrFormat("%s: the file ends at byte %d where %d more should follow; it is truncated", path,
                                            offset, bytes.size()));
    }
    offset += read;
    bytes = bytes.subspan(static_cast<size_t>(read));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadWholeFile(FileSystem& files, const std::string& path, int64_t max_bytes) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (!info || info->is_directory) return IntegrityError(path + ": there is no such file");
  if (info->bytes > max_bytes)
    return IntegrityError(absl::StrFormat("%s: has %d bytes, where at most %d make sense", path, info->bytes, max_bytes));
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path, OpenMode::kRead));
  std::string contents(static_cast<size_t>(info->bytes), '\0');
  JEVONS_RETURN_IF_ERROR(ReadExactly(*file, 0, std::as_writable_bytes(std::span(contents)), path));
  return contents;
}

absl::Status ReplaceWholeFile(FileSystem& files, const std::string& path, absl::string_view contents) {
  const std::string next = path + ".new";
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(next, OpenMode::kWrite));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(contents)), next));
  JEVONS_RETURN_IF_ERROR(file->Close());
  const absl::Status renamed = files.Rename(next, path);
  if (!renamed.ok()) files.Remove(next).IgnoreError();
  return renamed;
}

absl::Status MakeDirectories(FileSystem& files, const std::string& path) {
  if (path.empty() || path == "/") return absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (info.has_value()) return info->is_directory ? absl::OkStatus() : DiskError(path, "make the folder", ENOTDIR);
  const std::string parent = ParentPath(path);
  if (parent != ".") JEVONS_RETURN_IF_ERROR(MakeDirectories(files, parent));
  JEVONS_RETURN_IF_ERROR(files.MakeDirectory(path));
  return files.SyncDirectory(parent);
}

absl::Status RemoveTree(FileSystem& files, const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (!info.has_value()) return absl::OkStatus();
  if (!info->is_directory) return files.Remove(path);
  // A link to a folder goes as a file does; what it points to is not ours. A folder itself cannot be removed so.
  if (files.Remove(path).ok()) return absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
  for (const std::string& name : names) JEVONS_RETURN_IF_ERROR(RemoveTree(files, JoinPath(path, name)));
  return files.RemoveDirectory(path);
}

std::string JoinPath(absl::string_view directory, absl::string_view name) {
  if (directory.empty()) return std::string(name);
  return absl::StrCat(directory, directory.back() == '/' ? "" : "/", name);
}

std::string ParentPath(absl::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

}  // namespace jevons
