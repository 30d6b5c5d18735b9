// A file that only grows, by whole pieces: a piece that the disk does not take leaves no part of itself
// behind.
#ifndef JEVONS_TRAINER_FILES_APPEND_FILE_H_
#define JEVONS_TRAINER_FILES_APPEND_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace jevons {

class AppendFile {
 public:
  // Opens or makes the file and cuts it to `size` bytes.
  static absl::StatusOr<AppendFile> OpenAt(const std::string& path, int64_t size);
  // Opens or makes the file and cuts off what stands after its last newline: a line that a crash tore.
  static absl::StatusOr<AppendFile> OpenAfterLastLine(const std::string& path);
  // Makes the file; AlreadyExists when there is one.
  static absl::StatusOr<AppendFile> Create(const std::string& path);

  ~AppendFile();
  AppendFile(AppendFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
  AppendFile& operator=(AppendFile&& other) noexcept;

  // Written when this returns: another process sees it. Failure (disk full, ...) names the file and the
  // cause.
  absl::Status Append(absl::string_view piece);

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }

 private:
  AppendFile(std::string path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  std::string path_;
  int fd_;
  int64_t size_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_FILES_APPEND_FILE_H_
