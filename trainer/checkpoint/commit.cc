#include "trainer/checkpoint/commit.h"

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "trainer/checkpoint/epoch.h"
#include "trainer/checkpoint/folder.h"

namespace jevons {
namespace {

bool SameKind(const CheckpointTensor& a, const CheckpointTensor& b) {
  return a.dtype() == b.dtype() && std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(), b.shape().end());
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
        return FailureError(absl::StrFormat("tensor %s: rank %d calls it %s %s, a rank before it %s %s", part.name(), rank,
                                            part.dtype(), ShapeOf(part).ToString(), entry->second.dtype(),
                                            ShapeOf(entry->second).ToString()));
      }
      entry->second.mutable_slices()->MergeFrom(part.slices());
    }
  }
  for (auto& [name, tensor] : tensors) {
    std::sort(tensor.mutable_slices()->begin(), tensor.mutable_slices()->end(),
              [](const CheckpointSlice& a, const CheckpointSlice& b) { return a.first_element() < b.first_element(); });
    manifest->add_tensors()->Swap(&tensor);
  }
  return absl::OkStatus();
}

absl::Status CheckVisible(FileSystem& files, const std::string& partial, const CheckpointManifest& manifest) {
  for (const CheckpointFile& file : manifest.files()) {
    const std::string path = JoinPath(partial, file.name());
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
    if (info.has_value() && info->bytes == file.bytes()) continue;
    return FailureError(
        absl::StrFormat("%s: another rank wrote %d bytes there, rank 0 sees %s; give the run a "
                        "folder that all ranks share",
                        path, file.bytes(), info ? absl::StrCat(info->bytes) : "no file"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CommitParts(FileSystem& files, const std::string& directory, const std::string& partial, const CheckpointInfo& info,
                         int64_t epoch, const std::vector<std::string>& indexes) {
  // Whoever takes over after this look takes the folder's name.
  if (epoch > 0) JEVONS_RETURN_IF_ERROR(CheckEpoch(files, directory, epoch));
  CheckpointManifest manifest;
  SetInfo(info, &manifest);
  manifest.set_epoch(epoch);
  JEVONS_RETURN_IF_ERROR(MergeIndexes(indexes, &manifest));
  JEVONS_RETURN_IF_ERROR(CheckVisible(files, partial, manifest));
  JEVONS_RETURN_IF_ERROR(WriteManifest(files, partial, manifest));
  JEVONS_RETURN_IF_ERROR(files.SyncDirectory(partial));
  JEVONS_ASSIGN_OR_RETURN(const std::vector<CommittedFolder> before, ListCommitted(files, directory));
  int64_t generation = 0;
  for (const CommittedFolder& folder : before) {
    if (folder.step == info.step) generation = folder.generation + 1;
  }
  const std::string committed = JoinPath(directory, FolderName(info.step, generation));
  JEVONS_RETURN_IF_ERROR(files.Rename(partial, committed));
  const absl::Status durable = files.SyncDirectory(directory);
  // Whole, but perhaps gone after a power loss: not a checkpoint that anyone was promised.
  if (!durable.ok()) files.Rename(committed, partial).IgnoreError();
  return durable;
}

}  // namespace jevons
