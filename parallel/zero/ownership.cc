#include "parallel/zero/ownership.h"

#include <algorithm>

namespace jevons {

std::vector<OwnedSlice> OwnedSlices(std::span<const int64_t> sizes, int ranks, int rank) {
  int64_t chunks = 0;
  for (const int64_t size : sizes) chunks += ChunksOf(size);
  const Range owned = BlockOf(chunks, ranks, rank);
  std::vector<OwnedSlice> slices;
  int64_t first = 0;  // chunk of all at which the parameter begins
  for (size_t p = 0; p < sizes.size() && first < owned.end; ++p) {
    const int64_t begin = std::max(owned.begin - first, int64_t{0}) * kChunk;
    const int64_t end = std::min((owned.end - first) * kChunk, sizes[p]);
    if (begin < end) slices.push_back({static_cast<int>(p), {begin, end}});
    first += ChunksOf(sizes[p]);
  }
  return slices;
}

}  // namespace jevons
