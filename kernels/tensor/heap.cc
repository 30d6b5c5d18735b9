#include "kernels/tensor/heap.h"

#include <iterator>

#include "kernels/base/check.h"

namespace jevons {

char* Heap::Take(int64_t bytes, const char* owner, const char* name) {
  int64_t offset = end_;
  if (const auto fit = sizes_.lower_bound({bytes, 0}); fit != sizes_.end()) {
    const int64_t whole = fit->first;
    offset = fit->second;
    sizes_.erase(fit);
    free_.erase(offset);
    if (whole > bytes) Free(offset + bytes, whole - bytes);
  } else {
    end_ += bytes;
    region_.Extend(end_, name);
  }
  taken_.emplace(offset, Slice{bytes, owner, name});
  if (end_ > peak_) {
    peak_ = end_;
    peak_is_current_ = true;
  }
  return region_.base() + offset;
}

void Heap::Give(const char* slice) {
  const auto taken = taken_.find(slice - region_.base());
  JEVONS_CHECK(taken != taken_.end(), "a slice is given back that nobody has");
  if (peak_is_current_) {
    at_peak_ = taken_;
    peak_is_current_ = false;
  }
  int64_t offset = taken->first, bytes = taken->second.bytes;
  taken_.erase(taken);
  const auto join = [&](std::map<int64_t, int64_t>::iterator neighbour) {
    bytes += neighbour->second;
    sizes_.erase({neighbour->second, neighbour->first});
    offset = std::min(offset, neighbour->first);
    free_.erase(neighbour);
  };
  if (const auto after = free_.find(offset + bytes); after != free_.end()) join(after);
  if (const auto after = free_.lower_bound(offset); after != free_.begin())
    if (const auto before = std::prev(after); before->first + before->second == offset) join(before);
  if (offset + bytes == end_)
    end_ = offset;  // no hole: so a heap that has become empty is as good as new
  else
    Free(offset, bytes);
}

void Heap::Free(int64_t offset, int64_t bytes) {
  free_.emplace(offset, bytes);
  sizes_.emplace(bytes, offset);
}

std::vector<Heap::Use> Heap::PeakUse() const {
  std::map<std::pair<std::string, std::string>, int64_t> sums;
  int64_t holes = peak_;
  for (const auto& [offset, slice] : peak_is_current_ ? taken_ : at_peak_) {
    sums[{slice.owner, slice.name}] += slice.bytes;
    holes -= slice.bytes;
  }
  std::vector<Use> uses;
  for (const auto& [key, bytes] : sums) uses.push_back({key.first, key.second, bytes});
  if (holes > 0) uses.push_back({"", "", holes});
  return uses;
}

}  // namespace jevons
