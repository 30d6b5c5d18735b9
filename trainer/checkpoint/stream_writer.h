// Writes a checkpoint front to back, tensor after tensor, by one process: for states that never were in memory as a whole.
// The same format as CheckpointWriter's (FORMAT.md). Memory: one chunk (4 MiB).
//
//   JEVONS_ASSIGN_OR_RETURN(auto writer, CheckpointStream::Create(files, "RUN.partial/checkpoints/step-00000000"));
//   JEVONS_RETURN_IF_ERROR(writer.BeginTensor("weight/a", DType::kF32, {4, 512}));
//   JEVONS_RETURN_IF_ERROR(writer.Append(bytes));  // in any pieces, until the tensor is complete
//   JEVONS_RETURN_IF_ERROR(writer.Finish({.step = 0, .config_text = ...}));
#ifndef JEVONS_TRAINER_CHECKPOINT_STREAM_WRITER_H_
#define JEVONS_TRAINER_CHECKPOINT_STREAM_WRITER_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor/tensor.h"
#include "trainer/checkpoint/manifest.pb.h"
#include "trainer/checkpoint/writer.h"

namespace jevons {

class CheckpointStream {
 public:
  // Makes `folder` and those above it. It becomes a checkpoint with Finish; the caller sees to it that nobody takes it for one
  // before, by the name of it or of a folder above.
  static absl::StatusOr<CheckpointStream> Create(FileSystem& files, const std::string& folder);

  // REQUIRES: the tensor before is complete. `name` as in TensorSlice.
  absl::Status BeginTensor(const std::string& name, DType dtype, const Shape& shape);
  absl::Status Append(std::span<const std::byte> bytes);
  // Writes the manifest; everything is durable when it returns.
  absl::Status Finish(const CheckpointInfo& info);

 private:
  CheckpointStream(FileSystem& files, std::string folder) : files_(&files), folder_(std::move(folder)) {}
  absl::Status FlushChunk();

  FileSystem* files_;
  std::string folder_, path_;
  std::unique_ptr<File> file_;
  CheckpointManifest manifest_;
  CheckpointTensor* tensor_ = nullptr;
  std::vector<std::byte> chunk_;  // of the tensor's current chunk, what has come so far
  int64_t left_ = 0;              // bytes of the tensor that are still to come
  int64_t offset_ = 0;            // in the file
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_STREAM_WRITER_H_
