#include "trainer/checkpoint/rank_file.h"

#include <algorithm>
#include <new>
#include <optional>

#include "absl/strings/str_format.h"
#include "kernels/tensor/device.h"
#include "trainer/checkpoint/host_copy.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {

RankFile::RankFile(FileSystem& files, int rank)
    : files_(files), name_(absl::StrFormat("rank-%05d.bin", rank)) {}

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
    return FailureError(
        absl::StrFormat("no memory for the %d bytes that a checkpoint copies; use more ranks", bytes));
  }
  capacity_ = bytes;
  return absl::OkStatus();
}

absl::Status RankFile::Stage(const std::vector<TensorSlice>& slices, const Stream& stream) {
  JEVONS_CHECK(!thread_.joinable(), "staging while the last save is being written");
  size_ = 0;
  for (const TensorSlice& slice : slices) size_ += slice.elements.size() * SizeOf(slice.dtype);
  JEVONS_RETURN_IF_ERROR(Reserve(size_));
  index_.Clear();
  if (size_ > 0) {
    index_.add_files()->set_name(name_);
    index_.mutable_files(0)->set_bytes(size_);
  }
  int64_t offset = 0;
  HostCopy copy(stream, staging_.get());
  for (const TensorSlice& slice : slices) {
    JEVONS_CHECK(IsTensorName(slice.name), "tensor \"%s\"", slice.name.c_str());
    JEVONS_CHECK(0 <= slice.elements.begin && slice.elements.begin <= slice.elements.end &&
                     slice.elements.end <= slice.shape.size(),
                 "%s: elements [%lld, %lld) of %s", slice.name.c_str(),
                 static_cast<long long>(slice.elements.begin), static_cast<long long>(slice.elements.end),
                 slice.shape.ToString().c_str());
    CheckpointTensor* tensor = index_.add_tensors();
    tensor->set_name(slice.name);
    tensor->set_dtype(NameOf(slice.dtype));
    for (int d = 0; d < slice.shape.rank; ++d) tensor->add_shape(slice.shape[d]);
    if (slice.elements.empty())
      continue;  // its tensor is listed all the same: it may have no elements at all
    CheckpointSlice* part = tensor->add_slices();
    part->set_offset(offset);
    part->set_first_element(slice.elements.begin);
    part->set_elements(slice.elements.size());
    const int64_t bytes = slice.elements.size() * SizeOf(slice.dtype);
    copy.Append(slice.data, bytes);
    offset += bytes;
  }
  copy.Finish();
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
    if (stop_)
      return FailureError(absl::StrFormat("%s: the writer was closed before the save was finished", path));
    const int64_t bytes = std::min(kChunkBytes, size_ - begin);
    JEVONS_RETURN_IF_ERROR(WriteAll(*file, staged().subspan(begin, bytes), path));
    bytes_written_.fetch_add(bytes, std::memory_order_relaxed);
  }
  HashChunks();  // here, while the system may already move the data to the disk
  JEVONS_RETURN_IF_ERROR(file->Fsync());
  return file->Close();
}

void RankFile::HashChunks() {
  for (CheckpointTensor& tensor : *index_.mutable_tensors()) {
    const int64_t element_bytes = SizeOf(*DTypeNamed(tensor.dtype()));
    for (CheckpointSlice& slice : *tensor.mutable_slices()) {
      const int64_t slice_bytes = slice.elements() * element_bytes;
      for (int64_t begin = 0; begin < slice_bytes; begin += kChunkBytes) {
        const int64_t bytes = std::min(kChunkBytes, slice_bytes - begin);
        slice.mutable_chunk_hashes()->append(HashOf(staged().subspan(slice.offset() + begin, bytes)));
      }
    }
  }
}

}  // namespace jevons
