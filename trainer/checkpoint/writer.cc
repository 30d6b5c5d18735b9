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
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/rank_file.h"

namespace jevons {
namespace {

// A disk that stalls is no lost peer: ranks wait for each other's files so many times as long as for anything else.
constexpr double kPatience = 12;

// Adds the time until its end to `seconds`.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point start_;
};

bool SameKind(const CheckpointTensor& a, const CheckpointTensor& b) {
  return a.dtype() == b.dtype() &&
         std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(), b.shape().end());
}

// Joins the tensors of all ranks by name, their slices by first element; files keep the order of the ranks.
absl::Status MergeIndexes(const std::vector<std::string>& indexes, CheckpointManifest* manifest) {
  std::map<std::string, CheckpointTensor> tensors;
  for (size_t rank = 0; rank < indexes.size(); ++rank) {
    CheckpointManifest index;
    JEVONS_CHECK(index.ParseFromString(indexes[rank]), "index of rank %zu", rank);
    const uint32_t file = static_cast<uint32_t>(manifest->files_size());
    manifest->mutable_files()->MergeFrom(index.files());
    for (CheckpointTensor& part : *index.mutable_tensors()) {
      for (CheckpointSlice& slice : *part.mutable_slices()) slice.set_file(file);
      const auto [entry, is_new] = tensors.try_emplace(part.name(), part);
      if (is_new) continue;
      if (!SameKind(entry->second, part)) {
        return FailureError(absl::StrFormat("tensor %s: rank %d calls it %s %s, a rank before it %s %s",
                                            part.name(), rank, part.dtype(), ShapeOf(part).ToString(),
                                            entry->second.dtype(), ShapeOf(entry->second).ToString()));
      }
      entry->second.mutable_slices()->MergeFrom(part.slices());
    }
  }
  for (auto& [name, tensor] : tensors) {
    std::sort(tensor.mutable_slices()->begin(), tensor.mutable_slices()->end(),
              [](const CheckpointSlice& a, const CheckpointSlice& b) {
                return a.first_element() < b.first_element();
              });
    manifest->add_tensors()->Swap(&tensor);
  }
  return absl::OkStatus();
}

}  // namespace

CheckpointWriter::CheckpointWriter(FileSystem& files, std::string directory, Communicator& world, int keep)
    : files_(files),
      directory_(std::move(directory)),
      world_(world),
      keep_(keep),
      file_(std::make_unique<RankFile>(files, world.rank())) {
  JEVONS_CHECK(keep >= 1, "keep = %d checkpoints", keep);
}

CheckpointWriter::~CheckpointWriter() = default;

int64_t CheckpointWriter::bytes_written() const { return file_->bytes_written(); }
int64_t CheckpointWriter::staging_bytes() const { return file_->capacity(); }

absl::Status CheckpointWriter::Begin(const CheckpointInfo& info, const std::vector<TensorSlice>& slices,
                                     const Stream& stream) {
  JEVONS_CHECK(info.step >= 0, "step %lld", static_cast<long long>(info.step));
  if (const auto previous = Finish(); !previous.ok() && is_root()) {
    LogWarning(
        absl::StrFormat("the checkpoint of step %d failed: %s", info_.step, previous.status().message()));
  }
  const Stopwatch stopwatch(stall_seconds_);
  info_ = info;
  partial_ = JoinPath(directory_, PartialName(info.step));
  absl::Status ready = file_->Stage(slices, stream);
  if (ready.ok() && is_root()) ready = PrepareFolder();
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(world_, ready));
  file_->StartWriting(partial_);
  in_flight_ = true;
  return absl::OkStatus();
}

absl::Status CheckpointWriter::PrepareFolder() {
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
  const WatchdogPhase phase("waiting for checkpoint files to be written", kPatience);
  absl::Status status = AgreeOnStatus(world_, file_->Join());
  if (status.ok()) {
    const std::vector<std::string> indexes = GatherIndexes();
    status = AgreeOnStatus(world_, is_root() ? Publish(indexes) : absl::OkStatus());
  }
  if (!status.ok()) {
    if (is_root()) RemovePartial(files_, directory_).IgnoreError();  // the next Begin tries again
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

absl::Status CheckpointWriter::Publish(const std::vector<std::string>& indexes) {
  JEVONS_RETURN_IF_ERROR(WriteManifestOf(indexes));
  JEVONS_RETURN_IF_ERROR(files_.SyncDirectory(partial_));
  JEVONS_ASSIGN_OR_RETURN(const std::vector<CommittedFolder> before, ListCommitted(files_, directory_));
  int64_t generation = 0;
  for (const CommittedFolder& folder : before) {
    if (folder.step == info_.step) generation = folder.generation + 1;
  }
  const std::string committed = JoinPath(directory_, FolderName(info_.step, generation));
  JEVONS_RETURN_IF_ERROR(files_.Rename(partial_, committed));
  const absl::Status durable = files_.SyncDirectory(directory_);
  // Whole, but perhaps gone after a power loss: not a checkpoint that anyone was promised.
  if (!durable.ok()) files_.Rename(committed, partial_).IgnoreError();
  return durable;
}

absl::Status CheckpointWriter::WriteManifestOf(const std::vector<std::string>& indexes) {
  CheckpointManifest manifest;
  SetInfo(info_, &manifest);
  JEVONS_RETURN_IF_ERROR(MergeIndexes(indexes, &manifest));
  JEVONS_RETURN_IF_ERROR(CheckVisible(manifest));
  return WriteManifest(files_, partial_, manifest);
}

absl::Status CheckpointWriter::CheckVisible(const CheckpointManifest& manifest) {
  for (const CheckpointFile& file : manifest.files()) {
    const std::string path = JoinPath(partial_, file.name());
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files_.Stat(path));
    if (info.has_value() && info->bytes == file.bytes()) continue;
    return FailureError(
        absl::StrFormat("%s: another rank wrote %d bytes there, rank 0 sees %s; give the run a "
                        "folder that all ranks share",
                        path, file.bytes(), info ? absl::StrCat(info->bytes) : "no file"));
  }
  return absl::OkStatus();
}

absl::Status CheckpointWriter::RemoveOld() {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<CommittedFolder> folders, ListCommitted(files_, directory_));
  int kept = 0;
  int64_t kept_step = -1;
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    if (folder->step > info_.step) continue;  // of a run that went further: not ours to judge
    const bool superseded = folder->step == kept_step;
    if (!superseded && kept < keep_) {
      kept_step = folder->step;
      ++kept;
    } else {
      JEVONS_RETURN_IF_ERROR(Retire(files_, folder->path));
    }
  }
  return RemovePartial(files_, directory_);
}

}  // namespace jevons
