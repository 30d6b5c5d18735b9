#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"
#include "trainer/files/file_system.h"

namespace jevons {
namespace {

// `call` again for as long as a signal interrupts it.
template <typename Call>
auto Uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

class PosixFile : public File {
 public:
  PosixFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;
  ~PosixFile() override {
    if (descriptor_ >= 0) close(descriptor_);
  }

  absl::StatusOr<int64_t> Write(std::span<const std::byte> bytes) override {
    const ssize_t written = Uninterrupted([&] { return write(descriptor_, bytes.data(), bytes.size()); });
    if (written < 0) return DiskError(path_, "write", errno);
    return written;
  }

  absl::StatusOr<int64_t> PRead(int64_t offset, std::span<std::byte> bytes) override {
    const ssize_t read = Uninterrupted([&] { return pread(descriptor_, bytes.data(), bytes.size(), offset); });
    if (read < 0) return DiskError(path_, "read", errno);
    return read;
  }

  absl::Status Fsync() override {
    return Uninterrupted([&] { return fsync(descriptor_); }) == 0 ? absl::OkStatus() : DiskError(path_, "fsync", errno);
  }

  absl::Status Close() override {
    // Linux frees the descriptor even where close is interrupted: a second close could hit another thread's
    // file.
    const int result = close(std::exchange(descriptor_, -1));
    return result == 0 || errno == EINTR ? absl::OkStatus() : DiskError(path_, "close", errno);
  }

 private:
  std::string path_;
  int descriptor_;
};

class PosixDisk : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    int flags = O_CLOEXEC;
    switch (mode) {
      case OpenMode::kRead: flags |= O_RDONLY | O_NONBLOCK; break;  // a FIFO in the folder must not make us wait
      case OpenMode::kWrite: flags |= O_WRONLY | O_CREAT | O_TRUNC; break;
      case OpenMode::kAppend: flags |= O_WRONLY | O_CREAT | O_APPEND; break;
    }
    const int descriptor = Uninterrupted([&] { return open(path.c_str(), flags, 0644); });
    if (descriptor < 0) return DiskError(path, mode == OpenMode::kRead ? "open" : "open for writing", errno);
    return std::make_unique<PosixFile>(path, descriptor);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    return std::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : DiskError(to, "rename to it", errno);
  }

  absl::Status MakeDirectory(const std::string& path) override {
    return mkdir(path.c_str(), 0755) == 0 ? absl::OkStatus() : DiskError(path, "make the folder", errno);
  }

  absl::Status SyncDirectory(const std::string& path) override {
    const int descriptor = Uninterrupted([&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (descriptor < 0) return DiskError(path, "open the folder", errno);
    const int result = Uninterrupted([&] { return fsync(descriptor); });
    const int error_number = errno;
    close(descriptor);
    return result == 0 ? absl::OkStatus() : DiskError(path, "fsync the folder", error_number);
  }

  absl::Status Remove(const std::string& path) override {
    return unlink(path.c_str()) == 0 ? absl::OkStatus() : DiskError(path, "remove", errno);
  }

  absl::Status RemoveDirectory(const std::string& path) override {
    return rmdir(path.c_str()) == 0 ? absl::OkStatus() : DiskError(path, "remove the folder", errno);
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    DIR* directory = opendir(path.c_str());
    if (directory == nullptr) return DiskError(path, "list the folder", errno);
    std::vector<std::string> names;
    errno = 0;  // readdir says by errno alone whether null means the end
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    const int error_number = errno;
    closedir(directory);
    if (error_number != 0) return DiskError(path, "list the folder", error_number);
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<std::optional<FileInfo>> Stat(const std::string& path) override {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      if (errno == ENOENT || errno == ENOTDIR) return std::optional<FileInfo>();
      return DiskError(path, "look at", errno);
    }
    if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode))
      return IntegrityError(absl::StrFormat("%s: neither a file nor a folder; remove it", path));
    return std::optional<FileInfo>({.is_directory = S_ISDIR(info.st_mode), .bytes = info.st_size});
  }
};

}  // namespace

FileSystem& PosixFileSystem() {
  static PosixDisk disk;
  return disk;
}

}  // namespace jevons
