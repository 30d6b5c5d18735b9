#include "kernels/tensor/arena.h"

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/base/check.h"

namespace jevons {

Arena::Arena(std::string name, int64_t capacity, Device device)
    : own_(std::make_unique<Region>(std::move(name), capacity, device)) {}

Arena::Arena(const char* name, Heap& heap) : label_(name), heap_(&heap) {}

int64_t Arena::SliceBytes(DType dtype, const Shape& shape) {
  return (shape.size() * SizeOf(dtype) + Region::kAlignment - 1) / Region::kAlignment * Region::kAlignment;
}

Tensor Arena::Allocate(const char* name, DType dtype, const Shape& shape) {
  const int64_t bytes = SliceBytes(dtype, shape);
  char* data = nullptr;
  if (heap_ != nullptr) {
    data = bytes > 0 ? heap_->Take(bytes, label_, name) : heap_->region().base();
  } else {
    own_->Extend(used_ + bytes, name);
    data = own_->base() + used_;
  }
  used_ += bytes;
  slices_.push_back({name, data, bytes});
  if (used_ > peak_) {
    peak_ = used_;
    peak_is_current_ = true;
  }
  (heap_ == nullptr ? *own_ : heap_->region()).Poison(data, bytes);
  return Tensor(data, dtype, shape);
}

void Arena::Release(Mark mark) {
  JEVONS_CHECK(mark.used <= used_ && mark.slices <= slices_.size(), "arena %s: released out of order",
               label_ == nullptr ? "" : label_);
  if (peak_is_current_ && used_ == peak_ && mark.used < used_) {
    peak_slices_ = slices_;
    peak_is_current_ = false;
  }
  if (heap_ == nullptr) {
    own_->Poison(own_->base() + mark.used, used_ - mark.used);
  } else {
    for (size_t i = slices_.size(); i-- > mark.slices;) {
      heap_->region().Poison(slices_[i].data, slices_[i].bytes);
      if (slices_[i].bytes > 0) heap_->Give(slices_[i].data);
    }
  }
  used_ = mark.used;
  slices_.resize(mark.slices);
}

void Arena::ResetPeak() {
  peak_ = used_;
  peak_is_current_ = true;
}

std::vector<std::pair<std::string, int64_t>> Arena::PeakSlices() const {
  std::map<std::string, int64_t> by_name;
  for (const Slice& slice : peak_is_current_ ? slices_ : peak_slices_) by_name[slice.name] += slice.bytes;
  std::vector<std::pair<std::string, int64_t>> sorted(by_name.begin(), by_name.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return sorted;
}

}  // namespace jevons
