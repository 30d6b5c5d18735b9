#include "trainer/files/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {

absl::StatusOr<AppendFile> AppendFile::OpenAt(const std::string& path, int64_t size) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return FailureError(absl::StrFormat("%s: cannot open for writing: %s", path, std::strerror(errno)));
  AppendFile file(path, fd, size);
  if (ftruncate(fd, size) != 0) {
    return FailureError(absl::StrFormat("%s: cannot cut to %d bytes: %s", path, size, std::strerror(errno)));
  }
  return file;
}

absl::StatusOr<AppendFile> AppendFile::OpenAfterLastLine(const std::string& path) {
  std::string text;
  std::getline(std::ifstream(path, std::ios::binary), text, '\0');
  return OpenAt(path, static_cast<int64_t>(text.rfind('\n') + 1));
}

absl::StatusOr<AppendFile> AppendFile::Create(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd >= 0) return AppendFile(path, fd, 0);
  const std::string message = absl::StrFormat("%s: cannot create: %s", path, std::strerror(errno));
  return errno == EEXIST ? absl::AlreadyExistsError(message) : FailureError(message);
}

AppendFile::~AppendFile() {
  if (fd_ >= 0) close(fd_);
}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

absl::Status AppendFile::Append(absl::string_view piece) {
  size_t written = 0;
  while (written < piece.size()) {
    const ssize_t n = pwrite(fd_, piece.data() + written, piece.size() - written, size_ + static_cast<int64_t>(written));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int cause = n == 0 ? ENOSPC : errno;
      const bool clean = ftruncate(fd_, size_) == 0;
      return FailureError(absl::StrFormat("%s: cannot write %d bytes: %s%s", path_, piece.size(), std::strerror(cause),
                                          clean ? "" : "; a torn piece stays at its end"));
    }
    written += static_cast<size_t>(n);
  }
  size_ += static_cast<int64_t>(piece.size());
  return absl::OkStatus();
}

}  // namespace jevons
