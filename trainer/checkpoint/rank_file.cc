#include "trainer/checkpoint/rank_file.h"

#include <algorithm>
#include <new>
#include <optional>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/staging.h"

namespace jevons {

RankFile::RankFile(FileSystem& files, int rank) : files_(files), name_(RankFileName(rank)) {}

RankFile::~RankFile() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

absl::Status RankFile::Reserve(int64_t bytes) {
  if (bytes <= capacity_) return absl::OkStatus();
  staging_.reset();
  capacity_ = 0;
  staging_.reset(new (std::nothrow) std::byte[static_cast<size_t>(bytes)]);
  if (staging_ == nullptr) {
    return FailureError(absl::StrFormat("no memory for the %d bytes that a checkpoint copies; use more ranks", bytes));
  }
  capacity_ = bytes;
  return absl::OkStatus();
}

absl::Status RankFile::Stage(const std::vector<TensorSlice>& slices, const Stream& stream) {
  JEVONS_CHECK(!thread_.joinable(), "staging while the last save is being written");
  size_ = BytesOf(slices);
  JEVONS_RETURN_IF_ERROR(Reserve(size_));
  index_ = StageSlices(slices, stream, name_, staging_.get());
  return absl::OkStatus();
}

void RankFile::StartWriting(const std::string& folder) {
  done_ = false;
  thread_ = std::thread([this, path = JoinPath(folder, name_)] {
    status_ = size_ == 0 ? absl::OkStatus() : WriteFile(path);
    done_.store(true, std::memory_order_release);
  });
}

absl::Status RankFile::Join() {
  if (thread_.joinable()) thread_.join();
  return status_;
}

// Rank 0 has made it.
absl::Status RankFile::CheckFolder(const std::string& folder) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files_.Stat(folder));
  if (info.has_value()) return absl::OkStatus();
  return FailureError(
      absl::StrFormat("%s: rank 0 has made this folder, but the rank of %s does not see it; give the run "
                      "a folder that all ranks share",
                      folder, name_));
}

absl::Status RankFile::WriteFile(const std::string& path) {
  JEVONS_RETURN_IF_ERROR(CheckFolder(ParentPath(path)));
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files_.Open(path, OpenMode::kWrite));
  for (int64_t begin = 0; begin < size_; begin += kChunkBytes) {
    if (stop_) return FailureError(absl::StrFormat("%s: the writer was closed before the save was finished", path));
    const int64_t bytes = std::min(kChunkBytes, size_ - begin);
    JEVONS_RETURN_IF_ERROR(WriteAll(*file, staged().subspan(begin, bytes), path));
    bytes_written_.fetch_add(bytes, std::memory_order_relaxed);
  }
  HashChunks(staged(), &index_);  // here, while the system may already move the data to the disk
  JEVONS_RETURN_IF_ERROR(file->Fsync());
  return file->Close();
}

}  // namespace jevons
