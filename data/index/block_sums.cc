#include "data/index/block_sums.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "data/index/index_layout.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using index_layout::SumsPath;

// A sample of 4,096 tokens lies in one or two: larger ones would make a shuffled run read much that it does not use.
constexpr int64_t kBlockBytes = int64_t{64} << 10;
constexpr std::array<char, 8> kMagic = {'J', 'V', 'N', 'S', 'U', 'M', 'S', '1'};

struct Header {
  std::array<char, 8> magic;
  uint64_t block_bytes, bin_bytes, idx_sum;
  uint64_t own_sum;  // of this file, with 0 here
};
static_assert(sizeof(Header) == 40);

int64_t BlocksOf(uint64_t bytes) { return static_cast<int64_t>((bytes + kBlockBytes - 1) / kBlockBytes); }

uint64_t Sum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t OwnSum(Header header, std::span<const std::byte> sums) {
  header.own_sum = 0;
  return XXH3_64bits_withSeed(sums.data(), sums.size(), Sum(std::as_bytes(std::span(&header, 1))));
}

}  // namespace

void BlockSummer::Append(std::span<const std::byte> bytes) {
  bytes_ += bytes.size();
  while (!bytes.empty()) {
    const size_t taken = std::min(bytes.size(), static_cast<size_t>(kBlockBytes) - block_.size());
    block_.insert(block_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    bytes = bytes.subspan(taken);
    if (block_.size() < static_cast<size_t>(kBlockBytes)) return;
    sums_.push_back(Sum(block_));
    block_.clear();
  }
}

absl::Status BlockSummer::Write(OutputFile& file, uint64_t idx_sum) {
  if (!block_.empty()) sums_.push_back(Sum(block_));
  Header header{.magic = kMagic, .block_bytes = kBlockBytes, .bin_bytes = bytes_, .idx_sum = idx_sum, .own_sum = 0};
  const auto sums = std::as_bytes(std::span(sums_));
  header.own_sum = OwnSum(header, sums);
  JEVONS_RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(&header, 1))));
  return file.Append(sums);
}

BlockSums::BlockSums(std::string prefix, MappedFile file, int64_t blocks)
    : prefix_(std::move(prefix)),
      file_(std::move(file)),
      checked_(std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(blocks))) {}

absl::StatusOr<std::optional<BlockSums>> BlockSums::Open(const std::string& prefix, std::span<const std::byte> bin,
                                                         std::span<const std::byte> idx) {
  const std::string path = SumsPath(prefix);
  if (std::error_code error; !std::filesystem::exists(path, error) && !error) return std::nullopt;
  JEVONS_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  const auto bad = [&](const std::string& what) {
    return IntegrityError(absl::StrFormat(
        "%s: %s; copy the dataset again, run `jevons prepare` again, or remove this file to use the data unchecked", path, what));
  };
  const std::span<const std::byte> bytes = file.bytes();
  Header header;
  if (bytes.size() < sizeof(header))
    return bad(absl::StrFormat("%d bytes, but the header alone has %d", bytes.size(), sizeof(header)));
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic || header.block_bytes != kBlockBytes) return bad("not a file of checksums, or of another version");
  const auto sums = bytes.subspan(sizeof(header));
  if (header.own_sum != OwnSum(header, sums)) return bad("damaged");
  if (header.bin_bytes != bin.size() || sums.size() != static_cast<size_t>(BlocksOf(bin.size())) * sizeof(uint64_t))
    return bad(
        absl::StrFormat("of a .bin of %d bytes, but %s has %d", header.bin_bytes, index_layout::BinPath(prefix), bin.size()));
  if (header.idx_sum != Sum(idx))
    return IntegrityError(absl::StrFormat(
        "%s: its checksum is not the one in %s: the file is damaged: copy it again, or run `jevons prepare` again",
        index_layout::IdxPath(prefix), path));
  return BlockSums(prefix, std::move(file), BlocksOf(bin.size()));
}

uint64_t BlockSums::SumOf(int64_t block) const {
  uint64_t sum;
  std::memcpy(&sum, file_.bytes().data() + sizeof(Header) + static_cast<size_t>(block) * sizeof(sum), sizeof(sum));
  return sum;
}

absl::Status BlockSums::Check(std::span<const std::byte> bin, int64_t begin, int64_t end) const {
  for (int64_t block = begin / kBlockBytes; block * kBlockBytes < end; ++block) {
    std::atomic<uint8_t>& checked = checked_[static_cast<size_t>(block)];
    if (checked.load(std::memory_order_relaxed) != 0) continue;
    const auto first = static_cast<size_t>(block * kBlockBytes);
    const auto bytes = bin.subspan(first, std::min(static_cast<size_t>(kBlockBytes), bin.size() - first));
    if (Sum(bytes) != SumOf(block))
      return IntegrityError(absl::StrFormat(
          "%s: bytes %d to %d are not those that were prepared (checksum %016x, %s has %016x): the file is damaged: copy it "
          "again, or run "
          "`jevons prepare` again",
          index_layout::BinPath(prefix_), first, first + bytes.size() - 1, Sum(bytes), SumsPath(prefix_), SumOf(block)));
    checked.store(1, std::memory_order_relaxed);
  }
  return absl::OkStatus();
}

}  // namespace jevons
