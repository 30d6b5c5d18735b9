// Heap: one region that many arenas share. Each of them gives back last-in-first-out; they among each other take and give back in any
// order, so that what one has given back serves another.
//
//   Heap heap("micro-batches", int64_t{64} << 30, device);
//   Arena a("until B", heap), b("until W", heap);
//
// Taking is best fit, at the lowest address, and neighbours that are free become one: where slices go is a function alone of the calls since
// it was empty.
// So a heap on Device::kNone tells to the byte how much one with memory will need.
#ifndef JEVONS_KERNELS_TENSOR_HEAP_H_
#define JEVONS_KERNELS_TENSOR_HEAP_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tensor/region.h"

namespace jevons {

class Heap {
 public:
  Heap(std::string name, int64_t capacity, Device device) : region_(std::move(name), capacity, device) {}

  Device device() const { return region_.device(); }
  const Region& region() const { return region_; }

  // bytes: a multiple of Region::kAlignment. `owner` and `name` must outlive the heap (literals).
  char* Take(int64_t bytes, const char* owner, const char* name);
  void Give(const char* slice);

  // How far it has ever reached.
  int64_t peak_bytes() const { return peak_; }
  // Whose slices were alive when it reached that far, and the holes between them, by owner and name.
  struct Use {
    std::string owner, name;  // holes: both empty
    int64_t bytes;
  };
  std::vector<Use> PeakUse() const;

 private:
  struct Slice {
    int64_t bytes;
    const char *owner, *name;
  };
  using Slices = std::map<int64_t, Slice>;  // by offset
  void Free(int64_t offset, int64_t bytes);

  Region region_;
  int64_t end_ = 0;  // of the last slice
  Slices taken_, at_peak_;
  std::map<int64_t, int64_t> free_;              // holes: offset to bytes
  std::set<std::pair<int64_t, int64_t>> sizes_;  // the same: bytes, offset
  int64_t peak_ = 0;
  bool peak_is_current_ = true;  // at_peak_ is copied lazily, when the first slice alive at the peak is given back
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_HEAP_H_
