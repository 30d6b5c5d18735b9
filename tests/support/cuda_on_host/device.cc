// The device of programs that run kernels on the host: its memory is the host's, its streams run everything at once.
#include "kernels/tensor/device.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "kernels/tensor/cuda_backend.h"
#include "tests/support/cuda_on_host/device_memory.h"

namespace cuda_on_host {
namespace {

constexpr int64_t kPage = 4096;

// All memory that arenas have backed, open while anybody accesses it.
class Regions {
 public:
  void Set(char* base, int64_t bytes) {  // backed so far; 0 = gone
    const std::lock_guard lock(mutex_);
    if (bytes == 0) {
      regions_.erase(base);
    } else {
      regions_[base] = (bytes + kPage - 1) / kPage * kPage;
      if (users_ > 0) Protect(base, regions_[base], PROT_READ | PROT_WRITE);
    }
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    if (users_++ == 0) ProtectAll(PROT_READ | PROT_WRITE);
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    if (--users_ == 0) ProtectAll(PROT_NONE);
  }

 private:
  static void Protect(char* base, int64_t bytes, int protection) {
    JEVONS_CHECK(mprotect(base, static_cast<size_t>(bytes), protection) == 0, "mprotect");
  }
  void ProtectAll(int protection) const {
    for (const auto& [base, bytes] : regions_) Protect(base, bytes, protection);
  }
  std::mutex mutex_;
  std::map<char*, int64_t> regions_;
  int users_ = 0;
};

Regions& TheRegions() {
  static Regions regions;
  return regions;
}

}  // namespace

DeviceAccess::DeviceAccess() { TheRegions().Open(); }
DeviceAccess::~DeviceAccess() { TheRegions().Close(); }

}  // namespace cuda_on_host

namespace jevons {

using cuda_on_host::DeviceAccess;

CudaReport ExamineCuda() {
  CudaReport report;
  report.built = true;
  report.devices = {{.name = "the host", .major = 9, .minor = 0, .multiprocessors = 1, .memory_bytes = 0}};
  return report;
}
void UseCudaDevice(int) {}

namespace cuda {

void* NewStream() { return nullptr; }
void DeleteStream(void*) {}
void SynchronizeStream(void*) {}
void SynchronizeDevice() {}
void* NewEvent() { return nullptr; }
void DeleteEvent(void*) {}
void RecordEvent(void*, void*) {}
void WaitForEvent(void*, void*) {}
void SynchronizeEvent(void*) {}
bool EventHappened(void*) { return true; }
double EventMilliseconds(void*, void*) { return 0; }
void CopyBytes(void*, const void* from, void* to, int64_t bytes) {
  const DeviceAccess access;
  std::memcpy(to, from, static_cast<size_t>(bytes));
}
void SetBytes(void*, void* to, int value, int64_t rows, int64_t width, int64_t pitch) {
  const DeviceAccess access;
  for (int64_t r = 0; r < rows; ++r)
    std::memset(static_cast<char*>(to) + r * pitch, value, static_cast<size_t>(width));
}
void* NewPinned(int64_t bytes) { return std::malloc(static_cast<size_t>(bytes)); }
void DeletePinned(void* data) { std::free(data); }

Memory::Memory(int64_t capacity) : reserved_(capacity) {
  void* address = mmap(nullptr, static_cast<size_t>(capacity), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  JEVONS_CHECK(address != MAP_FAILED, "no address space");
  base_ = static_cast<char*>(address);
}
Memory::~Memory() {
  cuda_on_host::TheRegions().Set(base_, 0);
  munmap(base_, static_cast<size_t>(reserved_));
}
void Memory::Back(int64_t bytes) {
  JEVONS_CHECK(bytes <= reserved_);
  if (bytes <= backed_) return;
  backed_ = bytes;
  cuda_on_host::TheRegions().Set(base_, bytes);
}

}  // namespace cuda
}  // namespace jevons
