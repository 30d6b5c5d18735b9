#include "trainer/checkpoint/memory_parts.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "trainer/checkpoint/commit.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/staging.h"

namespace jevons {
namespace {

std::string IndexName(int rank) { return absl::StrFormat("rank-%05d.pb", rank); }

absl::StatusOr<CheckpointManifest> ReadIndex(FileSystem& files, const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(const std::string bytes, ReadWholeFile(files, path, kMaxManifestBytes));
  return UnsealManifest(bytes, path);
}

absl::Status WriteDurable(FileSystem& files, const std::string& path, absl::string_view bytes) {
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path, OpenMode::kWrite));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(bytes)), path));
  JEVONS_RETURN_IF_ERROR(file->Fsync());
  return file->Close();
}

// Slices lie in the file in the order of the index.
absl::Status CopyElements(FileSystem& files, const CheckpointManifest& index, const std::string& from_path,
                          const std::string& to_path) {
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> from, files.Open(from_path, OpenMode::kRead));
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> to, files.Open(to_path, OpenMode::kWrite));
  std::vector<std::byte> chunk;
  for (const CheckpointTensor& tensor : index.tensors()) {
    for (const CheckpointSlice& slice : tensor.slices()) {
      const int64_t bytes = slice.elements() * SizeOf(*DTypeNamed(tensor.dtype()));
      for (int64_t begin = 0; begin < bytes; begin += kChunkBytes) {
        chunk.resize(static_cast<size_t>(std::min(kChunkBytes, bytes - begin)));
        JEVONS_RETURN_IF_ERROR(ReadExactly(*from, slice.offset() + begin, chunk, from_path));
        if (slice.chunk_hashes().compare(static_cast<size_t>(begin / kChunkBytes * kHashBytes), kHashBytes, HashOf(chunk)) != 0)
          return IntegrityError(absl::StrFormat("%s: tensor %s, bytes [%d, +%d) of the file do not match their hash", from_path,
                                                tensor.name(), slice.offset() + begin, chunk.size()));
        JEVONS_RETURN_IF_ERROR(WriteAll(*to, chunk, to_path));
      }
    }
  }
  JEVONS_RETURN_IF_ERROR(to->Fsync());
  return to->Close();
}

}  // namespace

std::vector<MemoryPart> ListMemoryParts(FileSystem& files, const std::string& folder) {
  std::vector<MemoryPart> parts;
  const absl::StatusOr<std::vector<std::string>> names = files.List(folder);
  if (!names.ok()) return parts;
  for (absl::string_view name : *names) {
    if (!absl::ConsumeSuffix(&name, ".pb")) continue;
    MemoryPart part{.path = JoinPath(folder, name)};
    if (std::sscanf(std::string(name).c_str(), "rank-%d.", &part.rank) != 1) continue;
    const absl::StatusOr<CheckpointManifest> index = ReadIndex(files, part.path + ".pb");
    if (!index.ok()) continue;
    part.step = index->step();
    part.epoch = index->epoch();
    part.ranks = index->parts();
    parts.push_back(std::move(part));
  }
  return parts;
}

std::vector<MemoryPart> NewestWhole(std::span<const MemoryPart> parts, int64_t step) {
  std::map<std::tuple<int64_t, int64_t, int>, std::map<int, const MemoryPart*>> sets;  // by step, epoch and ranks; by rank
  for (const MemoryPart& part : parts)
    if (part.step > step) sets[{part.step, part.epoch, part.ranks}].emplace(part.rank, &part);
  for (auto set = sets.rbegin(); set != sets.rend(); ++set) {
    if (static_cast<int>(set->second.size()) != std::get<2>(set->first)) continue;
    std::vector<MemoryPart> whole;
    for (const auto& [rank, part] : set->second) whole.push_back(*part);
    return whole;
  }
  return {};
}

absl::Status CopyToDisk(FileSystem& files, const MemoryPart& part, const std::string& partial) {
  JEVONS_ASSIGN_OR_RETURN(const CheckpointManifest index, ReadIndex(files, part.path + ".pb"));
  if (index.step() != part.step || index.epoch() != part.epoch)
    return IntegrityError(absl::StrFormat("%s: step %d of epoch %d where step %d of epoch %d was", part.path, index.step(),
                                          index.epoch(), part.step, part.epoch));
  if (index.files_size() > 0)
    JEVONS_RETURN_IF_ERROR(CopyElements(files, index, part.path + ".bin", JoinPath(partial, RankFileName(part.rank))));
  return WriteDurable(files, JoinPath(partial, IndexName(part.rank)), SealManifest(index));
}

absl::Status CommitCopied(FileSystem& files, const std::string& directory, const std::string& partial, int ranks, int64_t epoch) {
  std::vector<std::string> indexes;
  CheckpointInfo info;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::string path = JoinPath(partial, IndexName(rank));
    JEVONS_ASSIGN_OR_RETURN(const CheckpointManifest index, ReadIndex(files, path));
    if (rank == 0) info = InfoOf(index);
    indexes.push_back(index.SerializeAsString());
    JEVONS_RETURN_IF_ERROR(files.Remove(path));
  }
  return CommitParts(files, directory, partial, info, epoch, indexes);
}

}  // namespace jevons
