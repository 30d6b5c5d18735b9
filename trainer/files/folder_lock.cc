#include "trainer/files/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr std::chrono::seconds kPatience(3);

}  // namespace

FolderLock::~FolderLock() {
  if (handle_ >= 0) close(handle_);
}

absl::Status FolderLock::Take(const std::string& folder) {
  handle_ = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // The ranks of a job whose launcher was killed live on for a moment: a supervisor that starts the next at once waits for them.
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  // A file system without locks is no reason not to train.
  while (handle_ >= 0 && flock(handle_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    if (std::chrono::steady_clock::now() >= deadline)
      return UsageError(folder + ": another process is training here; wait for it, or choose another --output");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return absl::OkStatus();
}

}  // namespace jevons
