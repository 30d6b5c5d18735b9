#include "data/fim.h"

#include <algorithm>

#include "kernels/base/philox.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

// A number in 0..bound, uniform to within 2^-64 of its probability.
int64_t UniformUpTo(int64_t bound, uint64_t key, uint64_t draw) {
  const unsigned __int128 product = static_cast<unsigned __int128>(RandomBits(key, 0, draw)) * (bound + 1);
  return static_cast<int64_t>(product >> 64);
}

}  // namespace

absl::StatusOr<FimDocument> FimDocument::Open(const IndexedDataset& dataset, int64_t document, uint64_t key,
                                              const FimTokens& special) {
  const int64_t start = dataset.DocumentStart(document);
  const int64_t length = dataset.DocumentLength(document);
  int32_t last = special.eos;
  if (length > 0) JEVONS_RETURN_IF_ERROR(dataset.Read(start + length - 1, std::span(&last, 1)));
  const int64_t tail = length > 0 && last == special.eos ? 1 : 0;
  const int64_t body = length - tail;
  const int64_t one = UniformUpTo(body, key, 0), other = UniformUpTo(body, key, 1);
  const int64_t cut = std::min(one, other), end = std::max(one, other);
  return FimDocument(dataset, {{{-1, 1, special.begin},
                                {start, cut, 0},
                                {-1, 1, special.hole},
                                {start + end, body - end, 0},
                                {-1, 1, special.end},
                                {start + cut, end - cut, 0},
                                {start + body, tail, 0}}});
}

absl::Status FimDocument::Read(int64_t offset, std::span<int32_t> out) const {
  for (const Piece& piece : pieces_) {
    if (out.empty()) break;
    if (offset >= piece.length) {
      offset -= piece.length;
      continue;
    }
    const int64_t take = std::min(piece.length - offset, static_cast<int64_t>(out.size()));
    if (piece.start < 0) {
      out[0] = piece.special;
    } else {
      JEVONS_RETURN_IF_ERROR(dataset_->Read(piece.start + offset, out.first(static_cast<size_t>(take))));
    }
    out = out.subspan(static_cast<size_t>(take));
    offset = 0;
  }
  return absl::OkStatus();
}

}  // namespace jevons
