#include "trainer/checkpoint/writer.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "parallel/comm/watchdog.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/checkpoint/commit.h"
#include "trainer/checkpoint/epoch.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/rank_file.h"

namespace jevons {
namespace {

// Adds the time until its end to `seconds`.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

CheckpointWriter::CheckpointWriter(FileSystem& files, std::string directory, Communicator& world, int keep,
                                   std::function<bool(int64_t step)> for_good)
    : files_(files),
      directory_(std::move(directory)),
      world_(world),
      keep_(keep),
      for_good_(std::move(for_good)),
      file_(std::make_unique<RankFile>(files, world.rank())) {
  JEVONS_CHECK(keep >= 1, "keep = %d checkpoints", keep);
}

CheckpointWriter::~CheckpointWriter() = default;

int64_t CheckpointWriter::bytes_written() const { return file_->bytes_written(); }
int64_t CheckpointWriter::staging_bytes() const { return file_->capacity(); }

absl::Status CheckpointWriter::Begin(const CheckpointInfo& info, const std::vector<TensorSlice>& slices, const Stream& stream) {
  JEVONS_CHECK(info.step >= 0, "step %lld", static_cast<long long>(info.step));
  if (const auto previous = Finish(); !previous.ok() && is_root()) {
    LogWarning(absl::StrFormat("the checkpoint of step %d failed: %s", info_.step, previous.status().message()));
  }
  const Stopwatch stopwatch(stall_seconds_);
  const WatchdogPhase phase("waiting for the folder of a checkpoint", kDiskPatience);
  info_ = info;
  partial_ = JoinPath(directory_, PartialName(info.step, epoch_));
  absl::Status ready = file_->Stage(slices, stream);
  if (ready.ok() && is_root()) ready = PrepareFolder();
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(world_, ready));
  file_->StartWriting(partial_);
  in_flight_ = true;
  return absl::OkStatus();
}

absl::Status CheckpointWriter::TakeOver() {
  const WatchdogPhase phase("waiting for the folder of checkpoints", kDiskPatience);
  const absl::StatusOr<int64_t> taken = is_root() ? TakeEpoch(files_, directory_) : absl::StatusOr<int64_t>(0);
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(world_, taken.status()));
  epoch_ = *taken;
  world_.Broadcast(std::as_writable_bytes(std::span(&epoch_, 1)), 0);
  return absl::OkStatus();
}

absl::Status CheckpointWriter::PrepareFolder() {
  if (epoch_ > 0) JEVONS_RETURN_IF_ERROR(CheckEpoch(files_, directory_, epoch_));
  JEVONS_RETURN_IF_ERROR(MakeDirectories(files_, directory_));
  // It may stem from a run that was killed before it could make the folder durable.
  JEVONS_RETURN_IF_ERROR(files_.SyncDirectory(ParentPath(directory_)));
  // What cannot be removed, as on NFS while somebody reads it, is in nobody's way: RemoveOld will say so.
  RemovePartial(files_, directory_).IgnoreError();
  return files_.MakeDirectory(partial_);
}

absl::StatusOr<std::optional<int64_t>> CheckpointWriter::Poll() {
  if (!in_flight_) return std::optional<int64_t>();
  const Stopwatch stopwatch(stall_seconds_);
  int64_t ranks_done = file_->done() ? 1 : 0;
  world_.AllReduceSum({&ranks_done, 1});
  if (ranks_done < world_.size()) return std::optional<int64_t>();
  return Commit();
}

absl::StatusOr<std::optional<int64_t>> CheckpointWriter::Finish() {
  if (!in_flight_) return std::optional<int64_t>();
  const Stopwatch stopwatch(stall_seconds_);
  return Commit();
}

absl::StatusOr<std::optional<int64_t>> CheckpointWriter::Commit() {
  in_flight_ = false;
  const WatchdogPhase phase("waiting for checkpoint files to be written", kDiskPatience);
  absl::Status status = AgreeOnStatus(world_, file_->Join());
  if (status.ok()) {
    const std::vector<std::string> indexes = GatherIndexes();
    status =
        AgreeOnStatus(world_, is_root() ? CommitParts(files_, directory_, partial_, info_, epoch_, indexes) : absl::OkStatus());
  }
  if (!status.ok()) {
    // Where another incarnation has taken over, that is why.
    const absl::Status taken_over =
        AgreeOnStatus(world_, is_root() && epoch_ > 0 ? CheckEpoch(files_, directory_, epoch_) : absl::OkStatus());
    if (!taken_over.ok()) status = taken_over;
    // The next Begin tries again. What is there is the other's own.
    if (is_root() && ExitCodeOf(status) != ExitCode::kPeerLost) RemovePartial(files_, directory_).IgnoreError();
    return status;
  }
  last_committed_ = info_.step;
  if (is_root()) {
    if (const absl::Status removed = RemoveOld(); !removed.ok()) {
      LogWarning(absl::StrFormat("an older checkpoint could not be removed: %s", removed.message()));
    }
  }
  return last_committed_;
}

std::vector<std::string> CheckpointWriter::GatherIndexes() {
  const std::string mine = file_->index().SerializeAsString();
  const size_t ranks = static_cast<size_t>(world_.size());
  const int64_t my_bytes = static_cast<int64_t>(mine.size());
  std::vector<int64_t> bytes(ranks);  // of each rank's index
  world_.AllGather(std::as_bytes(std::span(&my_bytes, 1)), std::as_writable_bytes(std::span(bytes)));

  std::vector<int64_t> send(ranks, 0);
  send[0] = my_bytes;
  const std::vector<int64_t> recv = is_root() ? bytes : std::vector<int64_t>(ranks, 0);
  int64_t total = 0;
  for (const int64_t part : recv) total += part;
  std::string all(static_cast<size_t>(total), '\0');
  world_.AllToAllV(std::as_bytes(std::span(mine)), send, std::as_writable_bytes(std::span(all)), recv);

  std::vector<std::string> indexes;
  size_t begin = 0;
  for (size_t rank = 0; is_root() && rank < ranks; ++rank) {
    indexes.push_back(all.substr(begin, static_cast<size_t>(recv[rank])));
    begin += static_cast<size_t>(recv[rank]);
  }
  return indexes;
}

absl::Status CheckpointWriter::RemoveOld() {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<CommittedFolder> folders, ListCommitted(files_, directory_));
  int kept = 0;
  int64_t kept_step = -1;
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    if (folder->step > info_.step) continue;  // of a run that went further: not ours to judge
    const bool superseded = folder->step == kept_step, for_good = for_good_ && for_good_(folder->step);
    if (!superseded && (kept < keep_ || for_good)) {
      kept_step = folder->step;
      ++kept;
    } else {
      JEVONS_RETURN_IF_ERROR(Retire(files_, folder->path));
    }
  }
  return RemovePartial(files_, directory_);
}

}  // namespace jevons
