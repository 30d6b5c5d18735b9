#include "data/index/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

std::string PartialName(const std::string& path) { return path + ".partial"; }

absl::Status DiskError(const std::string& path, absl::string_view action) {
  const int error = errno;
  return FailureError(absl::StrFormat("%s: cannot %s: %s; check the folder, its permissions and the free space", path, action,
                                      std::strerror(error)));
}

// Makes a rename in the folder of `path` survive a power cut.
absl::Status SyncFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return DiskError(folder, "open the folder");
  const bool synced = fsync(fd) == 0;
  const absl::Status status = synced ? absl::OkStatus() : DiskError(folder, "fsync the folder");
  close(fd);
  return status;
}

}  // namespace

absl::StatusOr<OutputFile> OutputFile::Create(const std::string& path) {
  const int fd = open(PartialName(path).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return DiskError(PartialName(path), "create the file");
  return OutputFile(path, fd);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this != &other) {
    Discard();
    path_ = std::move(other.path_);
    fd_ = std::exchange(other.fd_, -1);
    buffer_ = std::move(other.buffer_);
  }
  return *this;
}

OutputFile::~OutputFile() { Discard(); }

void OutputFile::Discard() {
  if (fd_ < 0) return;
  close(std::exchange(fd_, -1));
  unlink(PartialName(path_).c_str());
}

absl::Status OutputFile::Append(std::span<const std::byte> bytes) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status OutputFile::Flush() {
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t written = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return DiskError(PartialName(path_), "write");
    done += static_cast<size_t>(written);
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status OutputFile::Close() {
  JEVONS_RETURN_IF_ERROR(Flush());
  if (fsync(fd_) != 0) return DiskError(PartialName(path_), "fsync");
  if (std::rename(PartialName(path_).c_str(), path_.c_str()) != 0) return DiskError(path_, "rename to");
  if (close(std::exchange(fd_, -1)) != 0) return DiskError(path_, "close");
  return SyncFolder(path_);
}

}  // namespace jevons
