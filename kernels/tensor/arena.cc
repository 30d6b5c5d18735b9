#include "kernels/tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

namespace jevons {
namespace {

constexpr int64_t kAlignment = 64;

}  // namespace

Arena::Arena(std::string name, int64_t capacity) : name_(std::move(name)), capacity_(capacity) {
  void* address = mmap(nullptr, static_cast<size_t>(capacity), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  JEVONS_CHECK(address != MAP_FAILED, "arena %s: cannot reserve %lld bytes of address space", name_.c_str(),
               static_cast<long long>(capacity));
  base_ = static_cast<char*>(address);
  madvise(address, static_cast<size_t>(capacity), MADV_HUGEPAGE);
  const char* poison = std::getenv("JEVONS_POISON");
  poison_ = poison != nullptr && poison[0] == '1';
}

Arena::~Arena() { munmap(base_, static_cast<size_t>(capacity_)); }

int64_t Arena::SliceBytes(DType dtype, const Shape& shape) {
  return (shape.size() * SizeOf(dtype) + kAlignment - 1) / kAlignment * kAlignment;
}

Tensor Arena::Allocate(const char* name, DType dtype, const Shape& shape) {
  const int64_t bytes = SliceBytes(dtype, shape);
  JEVONS_CHECK(bytes <= capacity_ - used_, "arena %s: %s %s needs %lld bytes, %lld of %lld are used", name_.c_str(), name,
               shape.ToString().c_str(), static_cast<long long>(bytes), static_cast<long long>(used_),
               static_cast<long long>(capacity_));
  Tensor slice(base_ + used_, dtype, shape);
  used_ += bytes;
  slices_.push_back({name, bytes});
  if (used_ > peak_) {
    peak_ = used_;
    peak_is_current_ = true;
  }
  if (poison_) std::memset(slice.data, 0xFF, static_cast<size_t>(bytes));
  return slice;
}

void Arena::Release(Mark mark) {
  JEVONS_CHECK(mark.used <= used_ && mark.slices <= slices_.size(), "arena %s: released out of order", name_.c_str());
  if (peak_is_current_ && used_ == peak_ && mark.used < used_) {
    peak_slices_ = slices_;
    peak_is_current_ = false;
  }
  used_ = mark.used;
  slices_.resize(mark.slices);
}

void Arena::ResetPeak() {
  peak_ = used_;
  peak_is_current_ = true;
}

std::string Arena::PeakReport() const {
  std::map<std::string, int64_t> by_name;
  for (const Slice& slice : peak_is_current_ ? slices_ : peak_slices_) by_name[slice.name] += slice.bytes;
  std::vector<std::pair<int64_t, std::string>> sorted;
  for (const auto& [name, bytes] : by_name) sorted.emplace_back(-bytes, name);
  std::sort(sorted.begin(), sorted.end());
  std::string report;
  for (const auto& [negative, name] : sorted) report += name + "  " + std::to_string(-negative) + "\n";
  return report;
}

}  // namespace jevons
