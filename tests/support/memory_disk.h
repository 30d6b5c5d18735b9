// A disk in memory that knows what a power loss may leave of it.
//
// The model, as lenient to the disk as POSIX is (after ALICE, Pillai et al., OSDI'14):
// 1. What a file was when it was last fsynced is durable. Of later writes each 4 KiB block may be there, may
//    be there as zeros (the size grew, the data did not come), or may be missing, independently of all
//    others.
// 2. The names in a directory when it was last synced are durable. Later changes (a new name, a removal, a
//    rename, which is one change) may each be there or be missing, independently of all others and of the
//    contents of the files.
// 3. An fsync of a file that failed has forgotten what it should have written: programs still read it, but no
//    later fsync saves it (Rebello et al., "Can applications recover from fsync failures?", ATC'20).
#ifndef JEVONS_TESTS_SUPPORT_MEMORY_DISK_H_
#define JEVONS_TESTS_SUPPORT_MEMORY_DISK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "trainer/files/file_system.h"

namespace jevons {

// Thread-safe. Paths begin at the root of the disk, with or without a slash.
class MemoryDisk : public FileSystem {
 public:
  static constexpr int64_t kBlockBytes = 4096;

  MemoryDisk();

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status MakeDirectory(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<std::optional<FileInfo>> Stat(const std::string& path) override;

  // The contents of a file, to look at and to damage.
  std::string& Contents(const std::string& path);

  // Rule 3, where `path` is a file.
  void ForgetUnsynced(const std::string& path);

  // Decides between `count` possibilities: 0 is the poorest for the disk (nothing came), count - 1 the
  // richest.
  using Choose = std::function<int(int count)>;

  // The disk as it may come up after a power loss now, everything on it durable.
  std::unique_ptr<MemoryDisk> AfterPowerLoss(const Choose& choose) const;

  // Calls visit(disk) for the states that a power loss may leave: for all of them where they are at most
  // `limit`; else for the `limit` poorest, the richest and random ones, twice `limit` in all. Returns how
  // many it visited.
  int ForEachPowerLoss(int limit, uint64_t seed, const std::function<void(MemoryDisk&)>& visit) const;

  // Called after each operation that changes the disk or makes something durable, with the disk held still.
  void SetObserver(std::function<void(const MemoryDisk&)> observer) { observer_ = std::move(observer); }

  // All paths and contents: equal texts are equal disks, for programs.
  std::string Dump() const;

 private:
  struct Node;
  class OpenFile;
  using NodePointer = std::shared_ptr<Node>;

  NodePointer Find(const std::string& path) const;
  absl::StatusOr<NodePointer> FindDirectory(const std::string& path, absl::string_view action) const;
  absl::Status ChangeNames(const std::string& path, const std::string& removed, const std::string& added, NodePointer node);
  void Observe() const;

  mutable std::recursive_mutex mutex_;  // recursive: an observer may look at the disk
  NodePointer root_;
  std::function<void(const MemoryDisk&)> observer_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_MEMORY_DISK_H_
