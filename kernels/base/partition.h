// Contiguous blocks: the one rule by which micro-batches, experts and chunks are given to ranks.
// n items over p parts: part r owns [r*n/p, (r+1)*n/p): sizes differ by at most one, and zero is a size.
#ifndef JEVONS_KERNELS_BASE_PARTITION_H_
#define JEVONS_KERNELS_BASE_PARTITION_H_

#include <cstdint>

namespace jevons {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool empty() const { return begin >= end; }
  bool operator==(const Range&) const = default;
};

inline Range BlockOf(int64_t n, int64_t parts, int64_t part) { return {n * part / parts, n * (part + 1) / parts}; }

// The part that owns item i.
inline int64_t BlockOwner(int64_t n, int64_t parts, int64_t i) { return ((i + 1) * parts - 1) / n; }

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_PARTITION_H_
