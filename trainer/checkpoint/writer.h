// Saves the state of a run beside the training: copy, go on, commit later.
//
//   CheckpointWriter writer(PosixFileSystem(), "RUN/checkpoints", world, /*keep=*/3);
//   status = writer.Begin({.step = 12, .config_text = ...}, slices);  // where a save is due
//   JEVONS_ASSIGN_OR_RETURN(auto committed, writer.Poll());           // at every step boundary
//   JEVONS_ASSIGN_OR_RETURN(auto last, writer.Finish());              // at the end, and before exit 75
//
// 1. A checkpoint is named step-NNNNNNNN only when all of it is durable: every rank's file is fsynced, then
//    the manifest, then the folder that names them; then that folder is renamed, and the new name is made
//    durable. The rename is the commit.
// 2. Only then are older ones removed, down to `keep` and those kept for good; never the one just committed, and none newer than it.
// 3. A failure on one rank is the same failure on all. It leaves the checkpoints before it untouched and at
//    most a *.partial folder, which no reader takes and the next Begin removes.
// 4. Only the calling thread talks to other ranks.
//
// The folder must be one that all ranks see (checked at each commit). One run at a time may write there.
#ifndef JEVONS_TRAINER_CHECKPOINT_WRITER_H_
#define JEVONS_TRAINER_CHECKPOINT_WRITER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/partition.h"
#include "kernels/base/status.h"
#include "kernels/tensor/stream.h"
#include "kernels/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "trainer/files/file_system.h"

namespace jevons {

// A part of a logical tensor that this rank has. Over all ranks each element appears exactly once; the
// tensor's name, dtype and shape are the same wherever it appears.
struct TensorSlice {
  std::string name;  // 1 to 512 printable ASCII characters without blanks
  DType dtype = DType::kF32;
  Shape shape;       // global, of the logical tensor
  Range elements;    // flat, row-major; may be empty
  const void* data;  // element elements.begin; where the stream of the save works
};

// What is saved beside the tensors; rank 0's is taken.
struct CheckpointInfo {
  int64_t step = 0;  // optimizer steps done; the same on all ranks
  std::string config_text = {};
  std::string sampler_state = {};
  std::string cost_state = {};
  std::string step_history = {};
  std::map<std::string, std::string> labels = {};
};

class CheckpointManifest;
class RankFile;

class CheckpointWriter {
 public:
  // Keeps the newest `keep` (>= 1) checkpoints in `directory`, usually RUN/checkpoints, and beside them those of steps that `for_good`
  // names. `files` and `world` outlive this.
  CheckpointWriter(FileSystem& files, std::string directory, Communicator& world, int keep,
                   std::function<bool(int64_t step)> for_good = {});
  // Stops a save under way and leaves it uncommitted. Talks to no one.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Collective. Takes the run's next epoch (epoch.h): from here on no earlier incarnation commits there, and this one no more once a later
  // has taken over: then PeerLostError from Begin, Poll and Finish. Who does not call this neither fences nor is fenced.
  absl::Status TakeOver();

  // Collective. Copies the slices to a buffer kept from save to save, in stream order, and starts a thread that
  // writes it; the data may change as soon as this returns. A save still under way is finished first: see last_committed();
  // its failure is logged, and this save goes on all the same.
  absl::Status Begin(const CheckpointInfo& info, const std::vector<TensorSlice>& slices, const Stream& stream = {});

  // Collective; one integer reduction while a save is under way, else nothing. Commits once all ranks have
  // written. Returns the step just committed, if any. A failure ends the save (not the run: the caller may
  // Begin again later) and is the same on all ranks.
  absl::StatusOr<std::optional<int64_t>> Poll();

  // Collective. Waits for the writing and commits, as Poll.
  absl::StatusOr<std::optional<int64_t>> Finish();

  bool in_flight() const { return in_flight_; }
  int64_t epoch() const { return epoch_; }  // that it has taken
  std::optional<int64_t> last_committed() const { return last_committed_; }
  // Seconds that callers have spent in Begin, Poll and Finish.
  double stall_seconds() const { return stall_seconds_; }
  int64_t bytes_written() const;  // of tensors, by this rank, in all saves
  int64_t staging_bytes() const;  // what the buffer holds on to

 private:
  absl::Status PrepareFolder();
  absl::StatusOr<std::optional<int64_t>> Commit();
  std::vector<std::string> GatherIndexes();  // rank 0 gets all, the others nothing
  absl::Status RemoveOld();                  // on rank 0
  bool is_root() const { return world_.rank() == 0; }

  FileSystem& files_;
  const std::string directory_;
  Communicator& world_;
  const int keep_;
  const std::function<bool(int64_t step)> for_good_;
  std::unique_ptr<RankFile> file_;
  CheckpointInfo info_;  // of the save under way
  std::string partial_;  // its folder
  bool in_flight_ = false;
  int64_t epoch_ = 0;  // 0: none was taken
  std::optional<int64_t> last_committed_;
  double stall_seconds_ = 0;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_WRITER_H_
