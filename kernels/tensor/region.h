// Region: reserved address space of a device, what arenas and heaps hand out slices of. Pages become resident when first used.
#ifndef JEVONS_KERNELS_TENSOR_REGION_H_
#define JEVONS_KERNELS_TENSOR_REGION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/tensor/stream.h"

namespace jevons {
namespace cuda {
class Memory;
}

class Region {
 public:
  // On kNone capacity says nothing, and there is no memory behind the addresses.
  Region(std::string name, int64_t capacity, Device device);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // Slices begin at multiples of this.
  static constexpr int64_t kAlignment = 64;

  Device device() const { return device_; }
  char* base() const { return base_; }
  // Makes the first `bytes` usable; aborts, naming the slice that wants them, where there are not so many.
  void Extend(int64_t bytes, const char* slice);
  // Under JEVONS_POISON=1 fills with NaN bytes (0xFF).
  void Poison(char* data, int64_t bytes) const;

 private:
  std::string name_;
  Device device_;
  std::unique_ptr<cuda::Memory> memory_;  // on kCuda
  char* base_ = nullptr;
  int64_t capacity_;
  bool poison_;
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_REGION_H_
