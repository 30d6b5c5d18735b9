#include "kernels/tensor/region.h"

#include <sys/mman.h>

#include <cstring>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/environment.h"
#include "kernels/tensor/cuda_backend.h"
#include "kernels/tensor/device.h"

namespace jevons {
namespace {

constexpr int64_t kSmallPages = int64_t{4} << 20;  // bytes

// Where slices on kNone begin: no address of this half of the space is ever valid on a 64-bit machine, so nobody reads one unnoticed.
constexpr uintptr_t kNowhere = uintptr_t{1} << 62;
constexpr int64_t kWithoutEnd = int64_t{1} << 61;

// Host memory whose pages become resident when first written.
char* ReservePages(const std::string& name, int64_t capacity) {
  void* address =
      mmap(nullptr, static_cast<size_t>(capacity), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  JEVONS_CHECK(address != MAP_FAILED, "arena %s: cannot reserve %lld bytes of address space", name.c_str(),
               static_cast<long long>(capacity));
  // Large pages, but not for the first bytes: an arena that holds little should not make the system clear a large page.
  if (capacity > kSmallPages)
    madvise(static_cast<char*>(address) + kSmallPages, static_cast<size_t>(capacity - kSmallPages), MADV_HUGEPAGE);
  return static_cast<char*>(address);
}

}  // namespace

Region::Region(std::string name, int64_t capacity, Device device) : name_(std::move(name)), device_(device), capacity_(capacity) {
  poison_ = device != Device::kNone && EnvironmentSwitch("JEVONS_POISON");
  switch (device_) {
    case Device::kCpu: base_ = ReservePages(name_, capacity); break;
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

Region::~Region() {
  if (device_ == Device::kCpu) munmap(base_, static_cast<size_t>(capacity_));
}

void Region::Extend(int64_t bytes, const char* slice) {
  JEVONS_CHECK(bytes <= capacity_, "arena %s: %s would bring it to %lld bytes of %lld", name_.c_str(), slice,
               static_cast<long long>(bytes), static_cast<long long>(capacity_));
  if (memory_) memory_->Back(bytes);
}

void Region::Poison(char* data, int64_t bytes) const {
  if (!poison_ || bytes == 0) return;
  if (device_ == Device::kCpu) {
    std::memset(data, 0xFF, static_cast<size_t>(bytes));
    return;
  }
  // Nobody here knows the stream that used the slice, nor the one that will: all of them are waited for.
  cuda::SynchronizeDevice();
  cuda::SetBytes(nullptr, data, 0xFF, 1, bytes, bytes);
  cuda::SynchronizeDevice();
}

}  // namespace jevons
