// Reads checkpoints: any range of any tensor, whatever layout wrote it. Nothing is handed out whose hash was
// not checked.
//
//   JEVONS_ASSIGN_OR_RETURN(std::vector<int64_t> steps, CommittedSteps(files, "RUN/checkpoints"));
//   JEVONS_ASSIGN_OR_RETURN(std::string path, CheckpointPath(files, "RUN/checkpoints", steps.back()));
//   auto reader = CheckpointReader::Open(files, path);
//   if (!reader.ok()) return OfferNewestGood(files, "RUN/checkpoints", reader.status());
//   JEVONS_RETURN_IF_ERROR(reader->Read("head.weight", DType::kF32, {8192, 512}, {begin, end}, dst));
#ifndef JEVONS_TRAINER_CHECKPOINT_READER_H_
#define JEVONS_TRAINER_CHECKPOINT_READER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/partition.h"
#include "kernels/base/status.h"
#include "kernels/tensor/tensor.h"
#include "trainer/files/file_system.h"

namespace jevons {

// The steps that have a checkpoint in `directory` (RUN/checkpoints), rising; damaged ones included, partial
// ones not. Empty where there is no such directory. IntegrityError where there are none, but a checkpoint under another name.
absl::StatusOr<std::vector<int64_t>> CommittedSteps(FileSystem& files, const std::string& directory);

// The folder of that step's checkpoint; the last one where it was saved more than once. IntegrityError where
// there is none.
absl::StatusOr<std::string> CheckpointPath(FileSystem& files, const std::string& directory, int64_t step);

// A logical tensor.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// Not thread-safe: it keeps a file and a chunk at hand. Memory: the manifest and at most one chunk (4 MiB).
class CheckpointReader {
 public:
  // Checks the manifest's seal and every rule of FORMAT.md, sizes of files included, before anything is
  // allocated or used. `path` is a checkpoint's own folder, of any name but that of another step. `files` outlives
  // the reader. IntegrityError.
  static absl::StatusOr<CheckpointReader> Open(FileSystem& files, const std::string& path);
  CheckpointReader(CheckpointReader&&) noexcept;
  CheckpointReader& operator=(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const std::string& path() const;
  int64_t step() const;
  const std::string& config_text() const;
  const std::string& sampler_state() const;
  const std::string& cost_state() const;
  const std::string& step_history() const;
  const std::map<std::string, std::string>& labels() const;
  const std::vector<TensorInfo>& tensors() const;  // by rising name
  int64_t bytes() const;                           // of all tensors
  int files() const;                               // that hold them

  // dst[i] = element elements.begin + i of the tensor, i < elements.size(). Checks the hash of every chunk
  // that it touches. IntegrityError where there is no such tensor, where it has another dtype or shape, or
  // where a chunk is damaged; dst may have been written then, but must not be used. REQUIRES: elements within
  // [0, shape.size()).
  absl::Status Read(const std::string& name, DType dtype, const Shape& shape, Range elements, void* dst);

  // From here on Read takes a name that begins with `prefix` to begin with `other`.
  void ReadInstead(const std::string& prefix, const std::string& other);

  // Reads everything and checks all hashes.
  absl::Status Verify();

 private:
  struct State;
  explicit CheckpointReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// 32 hex digits that say which state this is, whatever layout wrote it: over the tensors in the order of
// their names, the step and the sampler's state. Not over cost, config and labels.
absl::StatusOr<std::string> StateHash(CheckpointReader& reader);

// "identical" exactly where the hashes are equal; else the first difference: by tensor and index with both
// values, and how many tensors differ. Values are compared bit by bit.
absl::StatusOr<std::string> Diff(CheckpointReader& a, CheckpointReader& b);

// The newest checkpoint in `directory` whose hashes are all right, empty where there is none, and the damaged ones that are newer. Reads them.
struct NewestGood {
  std::string path;
  std::vector<std::string> damaged;
};
absl::StatusOr<NewestGood> FindNewestGood(FileSystem& files, const std::string& directory);

// For when the newest checkpoint in `directory` was refused with `refused`: an IntegrityError that says so,
// names the newest one that is whole (it reads them to see) and the remedy. `refused` itself where the newest
// one is whole after all.
absl::Status OfferNewestGood(FileSystem& files, const std::string& directory, const absl::Status& refused);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_READER_H_
