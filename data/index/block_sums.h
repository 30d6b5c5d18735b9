// PREFIX.sums: a checksum for each block of PREFIX.bin and one of PREFIX.idx, so that what a run reads is what was prepared (FORMAT.md).
// A block is checked when something in it is first read: a run pays for what it uses of a file of any size.
#ifndef JEVONS_DATA_INDEX_BLOCK_SUMS_H_
#define JEVONS_DATA_INDEX_BLOCK_SUMS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/index/mapped_file.h"
#include "data/index/output_file.h"

namespace jevons {

// Takes the sums of a .bin while it is written.
class BlockSummer {
 public:
  void Append(std::span<const std::byte> bytes);
  // The whole file of sums. Call it last.
  absl::Status Write(OutputFile& file, uint64_t idx_sum);

 private:
  std::vector<std::byte> block_;  // what is not yet a whole one
  std::vector<uint64_t> sums_;
  uint64_t bytes_ = 0;
};

class BlockSums {
 public:
  // Of PREFIX.bin, opened as `bin`, and PREFIX.idx; nothing where PREFIX.sums is not there, as beside files of other programs.
  // IntegrityError where it is damaged or belongs to another .bin or .idx.
  static absl::StatusOr<std::optional<BlockSums>> Open(const std::string& prefix, std::span<const std::byte> bin,
                                                       std::span<const std::byte> idx);

  // Checks the blocks that bytes [begin, end) of `bin` lie in, unless they have been. Any number of threads at once. IntegrityError
  // names the first that differs.
  absl::Status Check(std::span<const std::byte> bin, int64_t begin, int64_t end) const;

 private:
  BlockSums(std::string prefix, MappedFile file, int64_t blocks);
  uint64_t SumOf(int64_t block) const;

  std::string prefix_;
  MappedFile file_;
  std::unique_ptr<std::atomic<uint8_t>[]> checked_;  // [blocks]
};

}  // namespace jevons

#endif  // JEVONS_DATA_INDEX_BLOCK_SUMS_H_
