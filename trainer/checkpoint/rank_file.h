// One rank's part of a save: the staging buffer, the thread that writes it, and the index of what is where.
// Internal.
#ifndef JEVONS_TRAINER_CHECKPOINT_RANK_FILE_H_
#define JEVONS_TRAINER_CHECKPOINT_RANK_FILE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/checkpoint/manifest.pb.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/files/file_system.h"

namespace jevons {

// REQUIRES: Stage, StartWriting, Join, in turn.
class RankFile {
 public:
  RankFile(FileSystem& files, int rank);
  ~RankFile();

  // Copies the slices end to end, and waits for it. FailureError where there is no memory for them.
  absl::Status Stage(const std::vector<TensorSlice>& slices, const Stream& stream);

  // Starts a thread that writes what is staged to folder/rank-NNNNN.bin, hashes it and makes it durable. A
  // rank that has nothing to write makes no file.
  void StartWriting(const std::string& folder);

  bool done() const { return done_.load(std::memory_order_acquire); }

  // Waits for the thread; how the writing went.
  absl::Status Join();

  // After Join: this rank's tensors and its file, as a manifest of its own.
  const CheckpointManifest& index() const { return index_; }
  int64_t bytes_written() const { return bytes_written_.load(std::memory_order_relaxed); }
  int64_t capacity() const { return capacity_; }

 private:
  std::span<const std::byte> staged() const { return {staging_.get(), static_cast<size_t>(size_)}; }
  absl::Status Reserve(int64_t bytes);
  absl::Status CheckFolder(const std::string& folder);
  absl::Status WriteFile(const std::string& path);

  FileSystem& files_;
  const std::string name_;
  CheckpointManifest index_;
  std::unique_ptr<std::byte[]> staging_;
  int64_t capacity_ = 0;
  int64_t size_ = 0;
  std::thread thread_;
  absl::Status status_;  // the thread's; read after Join
  std::atomic<bool> done_ = false;
  std::atomic<bool> stop_ = false;
  std::atomic<int64_t> bytes_written_ = 0;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_RANK_FILE_H_
