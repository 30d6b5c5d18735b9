// A file system that fails on purpose.
#ifndef JEVONS_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_
#define JEVONS_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "trainer/files/file_system.h"

namespace jevons {

enum class SyncPolicy {
  kHonest,
  kSkip,             // reports success and does nothing
  kLateAfterRename,  // of a file: reports success and syncs after the next rename
};

struct FaultPlan {
  // Operations are counted from 0: Open, Write, PRead, Fsync, Close and all calls of FileSystem.
  int64_t first_failure = std::numeric_limits<int64_t>::max();
  int64_t failures = 1;                                          // how many operations fail from there on
  int error_number = 5;                                          // EIO
  bool happens_anyway = false;                                   // the operation is done, and reported as failed
  size_t largest_transfer = std::numeric_limits<size_t>::max();  // bytes that one Write or PRead moves
  // What becomes of Fsync(path) and SyncDirectory(path).
  std::function<SyncPolicy(const std::string& path)> sync_policy = [](const std::string&) { return SyncPolicy::kHonest; };
  // Told of each sync that failed: see MemoryDisk::ForgetUnsynced.
  std::function<void(const std::string& path)> on_failed_sync = [](const std::string&) {};
};

// Passes everything to `inner`, but for what the plan says. Thread-safe where `inner` is.
class FaultFileSystem : public FileSystem {
 public:
  FaultFileSystem(FileSystem& inner, FaultPlan plan) : inner_(inner), plan_(std::move(plan)) {}

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status MakeDirectory(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<std::optional<FileInfo>> Stat(const std::string& path) override;

  int64_t operations() const { return operations_; }
  int64_t failed() const { return failed_; }

 private:
  class FaultFile;

  // Whether this operation fails.
  bool Fails();
  // One operation: done, failed, or done and reported as failed.
  template <typename Result>
  Result Do(const std::string& path, const std::function<Result()>& operation);
  absl::Status Sync(const std::string& path, const std::function<absl::Status()>& sync);

  FileSystem& inner_;
  const FaultPlan plan_;
  std::atomic<int64_t> operations_ = 0;
  std::atomic<int64_t> failed_ = 0;
  std::mutex mutex_;
  std::deque<std::function<absl::Status()>> late_syncs_;  // guarded by mutex_
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_
