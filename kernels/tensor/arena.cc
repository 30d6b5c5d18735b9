#include "kernels/tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "kernels/base/environment.h"
#include "kernels/tensor/cuda_backend.h"
#include "kernels/tensor/device.h"

namespace jevons {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kSmallPages = int64_t{4} << 20;  // bytes

// Where slices on kNone begin: no address of this half of the space is ever valid on a 64-bit machine, so nobody reads one unnoticed.
constexpr uintptr_t kNowhere = uintptr_t{1} << 62;
constexpr int64_t kWithoutEnd = int64_t{1} << 61;

// Host memory whose pages become resident when first written.
char* ReservePages(const std::string& name, int64_t capacity) {
  void* address = mmap(nullptr, static_cast<size_t>(capacity), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  JEVONS_CHECK(address != MAP_FAILED, "arena %s: cannot reserve %lld bytes of address space", name.c_str(),
               static_cast<long long>(capacity));
  // Large pages, but not for the first bytes: an arena that holds little should not make the system clear a large page.
  if (capacity > kSmallPages)
    madvise(static_cast<char*>(address) + kSmallPages, static_cast<size_t>(capacity - kSmallPages), MADV_HUGEPAGE);
  return static_cast<char*>(address);
}

}  // namespace

Arena::Arena(std::string name, int64_t capacity, Device device)
    : name_(std::move(name)), device_(device), capacity_(capacity) {
  poison_ = device != Device::kNone && EnvironmentSwitch("JEVONS_POISON");
  switch (device_) {
    case Device::kCpu:
      base_ = ReservePages(name_, capacity);
      break;
    case Device::kCuda:
      memory_ = std::make_unique<cuda::Memory>(capacity);
      base_ = memory_->base();
      break;
    case Device::kNone:
      base_ = reinterpret_cast<char*>(kNowhere);
      capacity_ = kWithoutEnd;
      break;
  }
}

Arena::~Arena() {
  if (device_ == Device::kCpu) munmap(base_, static_cast<size_t>(capacity_));
}

int64_t Arena::SliceBytes(DType dtype, const Shape& shape) {
  return (shape.size() * SizeOf(dtype) + kAlignment - 1) / kAlignment * kAlignment;
}

Tensor Arena::Allocate(const char* name, DType dtype, const Shape& shape) {
  const int64_t bytes = SliceBytes(dtype, shape);
  JEVONS_CHECK(bytes <= capacity_ - used_, "arena %s: %s %s needs %lld bytes, %lld of %lld are used",
               name_.c_str(), name, shape.ToString().c_str(), static_cast<long long>(bytes),
               static_cast<long long>(used_), static_cast<long long>(capacity_));
  Tensor slice(base_ + used_, dtype, shape);
  used_ += bytes;
  if (memory_) memory_->Back(used_);
  slices_.push_back({name, bytes});
  if (used_ > peak_) {
    peak_ = used_;
    peak_is_current_ = true;
  }
  if (poison_) Poison(slice.data, bytes);
  return slice;
}

void Arena::Poison(void* data, int64_t bytes) const {
  if (device_ == Device::kCpu) {
    std::memset(data, 0xFF, static_cast<size_t>(bytes));
    return;
  }
  // The arena does not know the stream that used the slice, nor the one that will: it waits for all of them.
  cuda::SynchronizeDevice();
  cuda::SetBytes(nullptr, data, 0xFF, 1, bytes, bytes);
  cuda::SynchronizeDevice();
}

void Arena::Release(Mark mark) {
  JEVONS_CHECK(mark.used <= used_ && mark.slices <= slices_.size(), "arena %s: released out of order",
               name_.c_str());
  if (peak_is_current_ && used_ == peak_ && mark.used < used_) {
    peak_slices_ = slices_;
    peak_is_current_ = false;
  }
  if (poison_ && mark.used < used_) Poison(base_ + mark.used, used_ - mark.used);
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
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return sorted;
}

}  // namespace jevons
