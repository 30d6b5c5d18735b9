#include "data/tokenizer/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "kernels/base/foreign_file.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

absl::Status SystemError(const std::string& path, absl::string_view action) {
  return FailureError(absl::StrFormat("%s: cannot %s: %s", path, action, std::strerror(errno)));
}

// A file descriptor that is closed on every way out.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::Status WriteAndSync(const std::string& path, absl::string_view contents) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (file.get() < 0) return SystemError(path, "create");
  while (!contents.empty()) {
    const ssize_t n = ::write(file.get(), contents.data(), contents.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(path, "write");
    contents.remove_prefix(static_cast<size_t>(n));
  }
  if (::fsync(file.get()) != 0) return SystemError(path, "sync");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes) {
  const Descriptor file(path, O_RDONLY);
  struct stat info;
  if (file.get() < 0 || ::fstat(file.get(), &info) != 0) {
    return IntegrityError(absl::StrFormat("%s: cannot open: %s", path, std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) return UsageError(absl::StrFormat("%s: not a regular file", path));
  if (info.st_size > max_bytes) {
    return IntegrityError(absl::StrFormat("%s: %d bytes; at most %d are expected", path, info.st_size, max_bytes));
  }
  std::string contents(static_cast<size_t>(info.st_size), '\0');
  size_t size = 0;
  while (size < contents.size()) {
    const ssize_t n = ::read(file.get(), contents.data() + size, contents.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(path, "read");
    if (n == 0) return IntegrityError(absl::StrFormat("%s: became shorter while it was read", path));
    size += static_cast<size_t>(n);
  }
  JEVONS_RETURN_IF_ERROR(RefuseForeignFile(path, contents));
  return contents;
}

absl::Status WriteTextFile(const std::string& path, absl::string_view contents) {
  const std::string partial = path + ".partial";
  if (absl::Status status = WriteAndSync(partial, contents); !status.ok()) {
    ::unlink(partial.c_str());
    return status;
  }
  if (std::rename(partial.c_str(), path.c_str()) != 0) return SystemError(path, "rename " + partial + " to");
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  return SyncFolder(folder.empty() ? "." : folder.string());
}

absl::Status SyncFolder(const std::string& path) {
  const Descriptor folder(path, O_RDONLY | O_DIRECTORY);
  if (folder.get() < 0 || ::fsync(folder.get()) != 0) return SystemError(path, "sync the folder");
  return absl::OkStatus();
}

}  // namespace jevons
