// Checkpoints in memory: what a rank that dies does not take along. Every rank copies its state into a folder of its host's memory
// (memory_writer.h), which whoever supervises the run owns. When the ranks are gone, the newest state whose parts are all there becomes a
// checkpoint on disk, as any other is.
//
//   FOLDER/rank-00003.0.bin   elements of tensors, end to end: what a checkpoint's rank-00003.bin holds
//   FOLDER/rank-00003.0.pb    its index, there while the part is whole: a sealed manifest of this part alone
//   FOLDER/rank-00003.1.bin   the other slot: one is written while the other is whole
#ifndef JEVONS_TRAINER_CHECKPOINT_MEMORY_PARTS_H_
#define JEVONS_TRAINER_CHECKPOINT_MEMORY_PARTS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/files/file_system.h"

namespace jevons {

struct MemoryPart {
  int64_t step = 0;   // optimizer steps done
  int64_t epoch = 0;  // of the incarnation that made it
  int rank = 0, ranks = 1;
  std::string path = {};  // "FOLDER/rank-00003.0"
  int host = 0;           // which has it, for who asks several
};

// Those in `folder` whose index is whole; none where there is no folder.
std::vector<MemoryPart> ListMemoryParts(FileSystem& files, const std::string& folder);

// One part for each rank of the newest step beyond `step` of which all are among `parts`; empty where there is none.
std::vector<MemoryPart> NewestWhole(std::span<const MemoryPart> parts, int64_t step);

// Copies a part's elements and index to the folder `partial`, durable. IntegrityError where a hash is not right.
absl::Status CopyToDisk(FileSystem& files, const MemoryPart& part, const std::string& partial);

// Makes `partial` in `directory` (RUN/checkpoints) a checkpoint, once all `ranks` parts have been copied there.
absl::Status CommitCopied(FileSystem& files, const std::string& directory, const std::string& partial, int ranks, int64_t epoch);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_MEMORY_PARTS_H_
