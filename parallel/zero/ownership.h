// Who owns which slice of the optimizer state (ZeRO stage 1): pure arithmetic.
// A parameter is cut into chunks of kChunk elements from its own beginning; the chunks of all parameters of a
// group, in table order, are given to the group's ranks in contiguous blocks. Sums of squares are taken per
// chunk, so norms do not feel the layout either.
#ifndef JEVONS_PARALLEL_ZERO_OWNERSHIP_H_
#define JEVONS_PARALLEL_ZERO_OWNERSHIP_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/partition.h"

namespace jevons {

inline constexpr int64_t kChunk = int64_t{1} << 16;  // elements

struct OwnedSlice {
  int param = 0;   // index into sizes
  Range elements;  // of that parameter
};

inline int64_t ChunksOf(int64_t size) { return (size + kChunk - 1) / kChunk; }

// The slices of rank `rank` of `ranks`, one per parameter that it touches, in order. sizes: elements per
// parameter.
std::vector<OwnedSlice> OwnedSlices(std::span<const int64_t> sizes, int ranks, int rank);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_ZERO_OWNERSHIP_H_
