// One rank's part of a save, copied end to end into memory of its own, and the index of what is where. Internal.
#ifndef JEVONS_TRAINER_CHECKPOINT_STAGING_H_
#define JEVONS_TRAINER_CHECKPOINT_STAGING_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.pb.h"
#include "trainer/checkpoint/writer.h"

namespace jevons {

int64_t BytesOf(const std::vector<TensorSlice>& slices);

// "rank-00003.bin"
std::string RankFileName(int rank);

// Copies the slices to `to`, which has room for BytesOf them, and waits for it. Returns their index: a manifest of the one file `name`, or of
// none where there are no bytes, without hashes.
CheckpointManifest StageSlices(const std::vector<TensorSlice>& slices, const Stream& stream, const std::string& name,
                               std::byte* to);

// Adds to `index` the hashes of what it says is in `staged`.
void HashChunks(std::span<const std::byte> staged, CheckpointManifest* index);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_STAGING_H_
