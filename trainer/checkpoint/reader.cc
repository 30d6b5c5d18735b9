#include "trainer/checkpoint/reader.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {
namespace {

absl::StatusOr<CheckpointManifest> LoadManifest(FileSystem& files, const std::string& folder) {
  const std::string path = JoinPath(folder, kManifestName);
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> folder_info, files.Stat(folder));
  if (!folder_info.has_value()) return IntegrityError(absl::StrFormat("%s: there is no such checkpoint", folder));
  if (absl::EndsWith(folder, ".partial")) {
    return IntegrityError(absl::StrFormat("%s: this save was never committed; use another checkpoint", folder));
  }
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (!info.has_value() || info->is_directory) {
    return IntegrityError(absl::StrFormat("%s: there is no %s: not a checkpoint, or a damaged one", folder, kManifestName));
  }
  if (info->bytes > kMaxManifestBytes) {
    return IntegrityError(absl::StrFormat("%s: %d bytes are too many for a manifest (at most %d); the checkpoint is damaged",
                                          path, info->bytes, kMaxManifestBytes));
  }
  std::string bytes(static_cast<size_t>(info->bytes), '\0');
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path, OpenMode::kRead));
  JEVONS_RETURN_IF_ERROR(ReadExactly(*file, 0, std::as_writable_bytes(std::span(bytes)), path));
  absl::StatusOr<CheckpointManifest> manifest = UnsealManifest(bytes, path);
  if (manifest.ok() && manifest->format_version() != kFormatVersion) {
    return IntegrityError(
        absl::StrFormat("%s: format_version %d, but this program reads %d; use a program of the "
                        "version that wrote it",
                        path, manifest->format_version(), kFormatVersion));
  }
  const absl::Status status = manifest.ok() ? CheckManifest(*manifest, path) : manifest.status();
  if (status.ok()) return manifest;
  return IntegrityError(absl::StrCat(status.message(), "; the checkpoint is damaged: use an older one"));
}

absl::Status CheckFileSizes(FileSystem& files, const std::string& folder, const CheckpointManifest& manifest) {
  for (const CheckpointFile& file : manifest.files()) {
    const std::string path = JoinPath(folder, file.name());
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
    if (!info.has_value() || info->is_directory) {
      return IntegrityError(absl::StrFormat("%s: the file is missing; the checkpoint is damaged: use an older one", path));
    }
    if (info->bytes != file.bytes()) {
      return IntegrityError(
          absl::StrFormat("%s: %d bytes, but the manifest says %d; the checkpoint is damaged: use an "
                          "older one",
                          path, info->bytes, file.bytes()));
    }
  }
  return absl::OkStatus();
}

// For a directory without checkpoints: IntegrityError where one stands under another name. A run must not start anew beside it.
absl::Status CheckNoneIsRenamed(FileSystem& files, const std::string& directory) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(directory));
  if (!info.has_value() || !info->is_directory) return absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(directory));
  for (const std::string& name : names) {
    if (absl::EndsWith(name, ".partial")) continue;
    const std::string path = JoinPath(directory, name);
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> folder, files.Stat(path));
    if (!folder.has_value() || !folder->is_directory) continue;
    JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> manifest, files.Stat(JoinPath(path, kManifestName)));
    if (!manifest.has_value()) continue;
    return IntegrityError(
        absl::StrFormat("%s: no folder there is named as a checkpoint is, but %s has a %s: rename it to step-NNNNNNNN, the "
                        "number being its step in "
                        "eight digits (`jevons inspect %s` tells it), or move it out of %s to start from the first step",
                        directory, name, kManifestName, path, directory));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> CommittedSteps(FileSystem& files, const std::string& directory) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<CommittedFolder> folders, ListCommitted(files, directory));
  std::vector<int64_t> steps;
  for (const CommittedFolder& folder : folders) {
    if (steps.empty() || steps.back() != folder.step) steps.push_back(folder.step);
  }
  if (steps.empty()) JEVONS_RETURN_IF_ERROR(CheckNoneIsRenamed(files, directory));
  return steps;
}

absl::StatusOr<std::string> CheckpointPath(FileSystem& files, const std::string& directory, int64_t step) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<CommittedFolder> folders, ListCommitted(files, directory));
  std::vector<int64_t> steps;
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    if (folder->step == step) return folder->path;
    steps.push_back(folder->step);
  }
  return IntegrityError(absl::StrFormat("%s: no checkpoint of step %d; there %s", directory, step,
                                        steps.empty() ? "are none" : "are those of steps " + absl::StrJoin(steps, ", ")));
}

struct CheckpointReader::State {
  FileSystem& files;
  std::string path;
  CheckpointManifest manifest;
  std::map<std::string, std::string> labels = {};
  std::vector<TensorInfo> tensors = {};
  std::unique_ptr<File> file = nullptr;  // the one last read from
  int64_t file_index = -1;               // in manifest.files()
  std::vector<std::byte> chunk = {};     // the one last read in part, checked
  const CheckpointSlice* chunk_slice = nullptr;
  int64_t chunk_index = -1;               // in chunk_slice
  std::string replaced = {}, other = {};  // of names, by ReadInstead

  absl::Status ReadSlice(const CheckpointTensor& tensor, const CheckpointSlice& slice, Range bytes, std::byte* dst);
  absl::Status ReadChunk(const CheckpointTensor& tensor, const CheckpointSlice& slice, int64_t index, std::span<std::byte> dst);
  absl::Status LoadChunk(const CheckpointTensor& tensor, const CheckpointSlice& slice, int64_t index, int64_t bytes);
};

// Reads and checks chunk `index` of the slice; dst.size() is the chunk's.
absl::Status CheckpointReader::State::ReadChunk(const CheckpointTensor& tensor, const CheckpointSlice& slice, int64_t index,
                                                std::span<std::byte> dst) {
  const std::string name = JoinPath(path, manifest.files(static_cast<int>(slice.file())).name());
  if (file_index != slice.file()) {
    file_index = -1;
    JEVONS_ASSIGN_OR_RETURN(file, files.Open(name, OpenMode::kRead));
    file_index = slice.file();
  }
  const int64_t offset = slice.offset() + index * kChunkBytes;
  JEVONS_RETURN_IF_ERROR(ReadExactly(*file, offset, dst, name));
  if (slice.chunk_hashes().compare(static_cast<size_t>(index * kHashBytes), kHashBytes, HashOf(dst)) != 0) {
    return IntegrityError(
        absl::StrFormat("%s: tensor %s, chunk %d of the slice at element %d (bytes [%d, %d) of the file) "
                        "does not match its hash; the checkpoint is damaged: use an older one",
                        name, tensor.name(), index, slice.first_element(), offset, offset + static_cast<int64_t>(dst.size())));
  }
  return absl::OkStatus();
}

// Makes `chunk` hold chunk `index` of the slice.
absl::Status CheckpointReader::State::LoadChunk(const CheckpointTensor& tensor, const CheckpointSlice& slice, int64_t index,
                                                int64_t bytes) {
  if (chunk_slice == &slice && chunk_index == index) return absl::OkStatus();
  chunk_slice = nullptr;
  chunk.resize(static_cast<size_t>(bytes));
  JEVONS_RETURN_IF_ERROR(ReadChunk(tensor, slice, index, chunk));
  chunk_slice = &slice;
  chunk_index = index;
  return absl::OkStatus();
}

// The bytes [begin, end) of the slice: whole chunks straight to their place, parts of chunks through `chunk`.
absl::Status CheckpointReader::State::ReadSlice(const CheckpointTensor& tensor, const CheckpointSlice& slice, Range bytes,
                                                std::byte* dst) {
  const int64_t slice_bytes = slice.elements() * SizeOf(*DTypeNamed(tensor.dtype()));
  for (int64_t index = bytes.begin / kChunkBytes; index * kChunkBytes < bytes.end; ++index) {
    const Range whole{index * kChunkBytes, std::min((index + 1) * kChunkBytes, slice_bytes)};
    const Range part{std::max(whole.begin, bytes.begin), std::min(whole.end, bytes.end)};
    std::byte* const to = dst + (part.begin - bytes.begin);
    if (part == whole) {
      JEVONS_RETURN_IF_ERROR(ReadChunk(tensor, slice, index, {to, static_cast<size_t>(part.size())}));
    } else {
      JEVONS_RETURN_IF_ERROR(LoadChunk(tensor, slice, index, whole.size()));
      std::memcpy(to, chunk.data() + (part.begin - whole.begin), static_cast<size_t>(part.size()));
    }
  }
  return absl::OkStatus();
}

CheckpointReader::CheckpointReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader& CheckpointReader::operator=(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

absl::StatusOr<CheckpointReader> CheckpointReader::Open(FileSystem& files, const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointManifest manifest, LoadManifest(files, path));
  JEVONS_RETURN_IF_ERROR(CheckFileSizes(files, path, manifest));
  // A copy under another step's name would be taken for that step, and be removed in its turn.
  if (const std::optional<int64_t> step = StepOfFolder(path); step && *step != manifest.step())
    return IntegrityError(absl::StrFormat("%s: holds step %d, but its name says step %d; rename it to %s", path, manifest.step(),
                                          *step, FolderName(manifest.step(), 0)));
  auto state = std::unique_ptr<State>(new State{.files = files, .path = path, .manifest = std::move(manifest)});
  for (const CheckpointLabel& label : state->manifest.labels()) state->labels[label.name()] = label.value();
  for (const CheckpointTensor& tensor : state->manifest.tensors()) {
    state->tensors.push_back({tensor.name(), *DTypeNamed(tensor.dtype()), ShapeOf(tensor)});
  }
  return CheckpointReader(std::move(state));
}

const std::string& CheckpointReader::path() const { return state_->path; }
int64_t CheckpointReader::step() const { return state_->manifest.step(); }
const std::string& CheckpointReader::config_text() const { return state_->manifest.config_text(); }
const std::string& CheckpointReader::sampler_state() const { return state_->manifest.sampler_state(); }
const std::string& CheckpointReader::cost_state() const { return state_->manifest.cost_state(); }
const std::string& CheckpointReader::step_history() const { return state_->manifest.step_history(); }
const std::map<std::string, std::string>& CheckpointReader::labels() const { return state_->labels; }
const std::vector<TensorInfo>& CheckpointReader::tensors() const { return state_->tensors; }
int CheckpointReader::files() const { return state_->manifest.files_size(); }

int64_t CheckpointReader::bytes() const {
  int64_t total = 0;
  for (const CheckpointFile& file : state_->manifest.files()) total += file.bytes();
  return total;
}

void CheckpointReader::ReadInstead(const std::string& prefix, const std::string& other) {
  state_->replaced = prefix;
  state_->other = other;
}

absl::Status CheckpointReader::Read(const std::string& asked, DType dtype, const Shape& shape, Range elements, void* dst) {
  const std::vector<TensorInfo>& tensors = state_->tensors;
  const bool instead = !state_->replaced.empty() && absl::StartsWith(asked, state_->replaced);
  const std::string name = instead ? state_->other + asked.substr(state_->replaced.size()) : asked;
  const auto found = std::lower_bound(tensors.begin(), tensors.end(), name,
                                      [](const TensorInfo& tensor, const std::string& key) { return tensor.name < key; });
  if (found == tensors.end() || found->name != name) {
    return IntegrityError(
        absl::StrFormat("%s: no tensor %s among its %d; the checkpoint is of another model", path(), name, tensors.size()));
  }
  if (found->dtype != dtype || !(found->shape == shape)) {
    return IntegrityError(
        absl::StrFormat("%s: tensor %s is %s %s, but the run wants %s %s; the checkpoint is of another "
                        "config",
                        path(), name, NameOf(found->dtype), found->shape.ToString(), NameOf(dtype), shape.ToString()));
  }
  JEVONS_CHECK(0 <= elements.begin && elements.begin <= elements.end && elements.end <= shape.size(),
               "%s: elements [%lld, %lld) of %s", name.c_str(), static_cast<long long>(elements.begin),
               static_cast<long long>(elements.end), shape.ToString().c_str());
  if (elements.empty()) return absl::OkStatus();

  const CheckpointTensor& tensor = state_->manifest.tensors(static_cast<int>(found - tensors.begin()));
  const auto& slices = tensor.slices();
  auto slice = std::upper_bound(slices.begin(), slices.end(), elements.begin,
                                [](int64_t element, const auto& candidate) { return element < candidate.first_element(); });
  for (--slice; slice != slices.end() && slice->first_element() < elements.end; ++slice) {
    const int64_t first = std::max(elements.begin, slice->first_element());
    const int64_t end = std::min(elements.end, slice->first_element() + slice->elements());
    const Range bytes{(first - slice->first_element()) * SizeOf(dtype), (end - slice->first_element()) * SizeOf(dtype)};
    std::byte* const to = static_cast<std::byte*>(dst) + (first - elements.begin) * SizeOf(dtype);
    JEVONS_RETURN_IF_ERROR(state_->ReadSlice(tensor, *slice, bytes, to));
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::Verify() {
  for (const CheckpointTensor& tensor : state_->manifest.tensors()) {
    for (const CheckpointSlice& slice : tensor.slices()) {
      const int64_t bytes = slice.elements() * SizeOf(*DTypeNamed(tensor.dtype()));
      for (int64_t index = 0; index < HashedChunks(bytes); ++index) {
        state_->chunk_slice = nullptr;  // from the disk, not from memory
        const int64_t chunk_bytes = std::min(kChunkBytes, bytes - index * kChunkBytes);
        JEVONS_RETURN_IF_ERROR(state_->LoadChunk(tensor, slice, index, chunk_bytes));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace jevons
