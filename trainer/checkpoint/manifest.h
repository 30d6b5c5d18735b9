// The manifest of a checkpoint: its bytes, and the rules that make it whole. Used by writer and reader alike,
// so that what one commits the other accepts. FORMAT.md states the rules; this header stays inside the
// folder.
#ifndef JEVONS_TRAINER_CHECKPOINT_MANIFEST_H_
#define JEVONS_TRAINER_CHECKPOINT_MANIFEST_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "kernels/base/status.h"
#include "kernels/tensor/tensor.h"
#include "trainer/checkpoint/manifest.pb.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/files/file_system.h"

namespace jevons {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr char kManifestName[] = "manifest.pb";
// The unit of integrity. 4 MiB: XXH3-128 runs at memory speed on it, its 16 bytes are nothing beside it, and
// what a reader must fetch to check one element stays small. A multiple of every element size.
inline constexpr int64_t kChunkBytes = int64_t{4} << 20;
inline constexpr int64_t kHashBytes = 16;
inline constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;  // 64 million chunks: 256 TiB of tensors

// XXH3-128 of `bytes` in its canonical form, 16 bytes.
std::string HashOf(std::span<const std::byte> bytes);

inline int64_t HashedChunks(int64_t bytes) { return (bytes + kChunkBytes - 1) / kChunkBytes; }

// The DType that NameOf spells so.
std::optional<DType> DTypeNamed(absl::string_view name);

// Whether a tensor may be called so: 1 to 512 printable ASCII characters without blanks.
bool IsTensorName(absl::string_view name);

// The bytes of manifest.pb, seal included; a function of the message alone.
std::string SealManifest(const CheckpointManifest& manifest);

// Checks the seal, then parses. `path` is for messages. IntegrityError.
absl::StatusOr<CheckpointManifest> UnsealManifest(absl::string_view bytes, const std::string& path);

// Every rule of FORMAT.md that needs no look at the disk, but for the version: names, types, sizes, each
// tensor tiled by its slices and each file by the slices in it. `path` is for messages. IntegrityError.
absl::Status CheckManifest(const CheckpointManifest& manifest, const std::string& path);

// What is saved beside the tensors, put into `manifest`; and the format's version.
void SetInfo(const CheckpointInfo& info, CheckpointManifest* manifest);
CheckpointInfo InfoOf(const CheckpointManifest& manifest);  // that SetInfo has put there

// Writes `manifest`, sealed, into `folder`, durable but for the folder's own names. FailureError where readers would refuse
// it.
absl::Status WriteManifest(FileSystem& files, const std::string& folder, const CheckpointManifest& manifest);

// Of a tensor that CheckManifest has passed.
Shape ShapeOf(const CheckpointTensor& tensor);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_MANIFEST_H_
