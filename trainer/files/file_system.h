// The one door to disk: everything that a checkpoint reads or writes passes through a FileSystem, so that a
// test can put a disk behind it that is full, lies, or loses power.
//
// The interface is as narrow and as low as the system calls that it stands for. What is easily got wrong
// (short writes, directories level by level, trees) is written once, in the functions below it. Failures are
// FailureErrors that name the path, the action and the system's reason.
#ifndef JEVONS_TRAINER_FILES_FILE_SYSTEM_H_
#define JEVONS_TRAINER_FILES_FILE_SYSTEM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace jevons {

enum class OpenMode {
  kRead,
  kWrite,   // a new, empty file: an older one of that name is emptied
  kAppend,  // made where it is missing
};

// An open file. The destructor closes it and reports nothing: whoever has written calls Fsync and Close.
class File {
 public:
  virtual ~File() = default;
  // Writes at the end (or at the place reached); returns how many bytes went, at least 1, perhaps fewer than
  // given.
  virtual absl::StatusOr<int64_t> Write(std::span<const std::byte> bytes) = 0;
  // Reads from `offset`; returns how many bytes came, 0 at the end of the file, perhaps fewer than asked for.
  virtual absl::StatusOr<int64_t> PRead(int64_t offset, std::span<std::byte> bytes) = 0;
  // A failure means that bytes written before may be lost, and a later success does not bring them back: give
  // the file up.
  virtual absl::Status Fsync() = 0;
  virtual absl::Status Close() = 0;
};

struct FileInfo {
  bool is_directory = false;
  int64_t bytes = 0;  // of a regular file
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) = 0;
  // Puts `from` in the place of `to` at once. A directory replaces at most an empty directory.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // One level; its parent exists.
  virtual absl::Status MakeDirectory(const std::string& path) = 0;
  // Makes the names in it (new, renamed, removed) durable.
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  // A file.
  virtual absl::Status Remove(const std::string& path) = 0;
  // An empty directory.
  virtual absl::Status RemoveDirectory(const std::string& path) = 0;
  // The names in it, sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  // nullopt where nothing is there; IntegrityError for what is neither file nor directory.
  virtual absl::StatusOr<std::optional<FileInfo>> Stat(const std::string& path) = 0;
};

// The machine's own files. Interrupted calls are repeated.
FileSystem& PosixFileSystem();

// "path: cannot action: reason; remedy" for an errno.
absl::Status DiskError(const std::string& path, absl::string_view action, int error_number);

// Writes all of `bytes`, in as many calls as it takes.
absl::Status WriteAll(File& file, std::span<const std::byte> bytes, const std::string& path);

// Fills `bytes` from `offset`; IntegrityError where the file ends before.
absl::Status ReadExactly(File& file, int64_t offset, std::span<std::byte> bytes, const std::string& path);

// A whole small file. IntegrityError where there is none, or one of more than `max_bytes`.
absl::StatusOr<std::string> ReadWholeFile(FileSystem& files, const std::string& path, int64_t max_bytes);

// Writes a small file that others read while it changes: they see the old one or the new one, whole. Not made durable. PATH.new is used for it.
absl::Status ReplaceWholeFile(FileSystem& files, const std::string& path, absl::string_view contents);

// Makes `path` and the directories above it that are missing, each durable in its parent.
absl::Status MakeDirectories(FileSystem& files, const std::string& path);

// Removes a directory and all below it; nothing there is a success.
absl::Status RemoveTree(FileSystem& files, const std::string& path);

std::string JoinPath(absl::string_view directory, absl::string_view name);
std::string ParentPath(absl::string_view path);  // "a/b" for "a/b/c" and "a/b/c/"; "." for "a"

}  // namespace jevons

#endif  // JEVONS_TRAINER_FILES_FILE_SYSTEM_H_
