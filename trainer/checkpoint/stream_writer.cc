#include "trainer/checkpoint/stream_writer.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {

absl::StatusOr<CheckpointStream> CheckpointStream::Create(FileSystem& files, const std::string& folder) {
  CheckpointStream writer(files, folder);
  JEVONS_RETURN_IF_ERROR(MakeDirectories(files, folder));
  writer.manifest_.add_files()->set_name("rank-00000.bin");
  writer.path_ = JoinPath(folder, writer.manifest_.files(0).name());
  JEVONS_ASSIGN_OR_RETURN(writer.file_, files.Open(writer.path_, OpenMode::kWrite));
  return writer;
}

absl::Status CheckpointStream::BeginTensor(const std::string& name, DType dtype, const Shape& shape) {
  JEVONS_CHECK(left_ == 0, "%s begins while %lld bytes of the tensor before are missing", name.c_str(),
               static_cast<long long>(left_));
  JEVONS_CHECK(IsTensorName(name), "tensor \"%s\"", name.c_str());
  tensor_ = manifest_.add_tensors();
  tensor_->set_name(name);
  tensor_->set_dtype(NameOf(dtype));
  for (int d = 0; d < shape.rank; ++d) tensor_->add_shape(shape[d]);
  left_ = shape.size() * SizeOf(dtype);
  if (left_ == 0) return absl::OkStatus();  // no elements, no slice
  CheckpointSlice* slice = tensor_->add_slices();
  slice->set_offset(offset_);
  slice->set_elements(shape.size());
  return absl::OkStatus();
}

absl::Status CheckpointStream::Append(std::span<const std::byte> bytes) {
  JEVONS_CHECK(static_cast<int64_t>(bytes.size()) <= left_, "more bytes than the tensor has");
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), static_cast<size_t>(kChunkBytes) - chunk_.size());
    chunk_.insert(chunk_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    bytes = bytes.subspan(count);
    left_ -= static_cast<int64_t>(count);
    if (left_ == 0 || static_cast<int64_t>(chunk_.size()) == kChunkBytes) JEVONS_RETURN_IF_ERROR(FlushChunk());
  }
  return absl::OkStatus();
}

absl::Status CheckpointStream::FlushChunk() {
  tensor_->mutable_slices(0)->mutable_chunk_hashes()->append(HashOf(chunk_));
  offset_ += static_cast<int64_t>(chunk_.size());
  const absl::Status written = WriteAll(*file_, chunk_, path_);
  chunk_.clear();
  return written;
}

absl::Status CheckpointStream::Finish(const CheckpointInfo& info) {
  JEVONS_CHECK(left_ == 0 && offset_ > 0, "%lld bytes are missing of the last tensor", static_cast<long long>(left_));
  JEVONS_RETURN_IF_ERROR(file_->Fsync());
  JEVONS_RETURN_IF_ERROR(file_->Close());
  manifest_.mutable_files(0)->set_bytes(offset_);
  std::sort(manifest_.mutable_tensors()->begin(), manifest_.mutable_tensors()->end(),
            [](const CheckpointTensor& a, const CheckpointTensor& b) { return a.name() < b.name(); });
  SetInfo(info, &manifest_);
  JEVONS_RETURN_IF_ERROR(WriteManifest(*files_, folder_, manifest_));
  return files_->SyncDirectory(folder_);
}

}  // namespace jevons
