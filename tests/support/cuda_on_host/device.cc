// The device of programs that run kernels on the host: its memory is the host's, its streams run everything at once.
#include "kernels/tensor/device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/report.h"
#include "kernels/tensor/cuda_backend.h"
#include "tests/support/cuda_on_host/device_memory.h"

namespace cuda_on_host {
namespace {

// One range of addresses for all arenas, so that one call opens or closes all of their memory.
class Pool {
 public:
  Pool() {
    void* address = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    JEVONS_CHECK(address != MAP_FAILED, "no address space");
    madvise(address, kBytes, MADV_HUGEPAGE);  // fewer entries to change
    base_ = static_cast<char*>(address);
  }
  char* Take(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (const auto spare = spare_.find(bytes); spare != spare_.end()) return spare_.extract(spare).mapped();
    char* const taken = base_ + used_;
    used_ += (static_cast<size_t>(bytes) + kUnit - 1) / kUnit * kUnit;
    JEVONS_CHECK(used_ <= kBytes, "no more addresses");
    if (users_ > 0) Protect(PROT_READ | PROT_WRITE);
    return taken;
  }
  void GiveBack(char* base, int64_t bytes) {
    madvise(base, static_cast<size_t>(bytes), MADV_DONTNEED);
    const std::lock_guard lock(mutex_);
    spare_.emplace(bytes, base);
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    if (users_++ == 0) Protect(PROT_READ | PROT_WRITE);
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    if (--users_ == 0) Protect(PROT_NONE);
  }

 private:
  static constexpr size_t kBytes = size_t{16} << 40, kUnit = size_t{2} << 20;
  void Protect(int protection) const {
    if (used_ > 0) JEVONS_CHECK(mprotect(base_, used_, protection) == 0, "mprotect");
  }
  std::mutex mutex_;
  char* base_ = nullptr;
  size_t used_ = 0;
  int users_ = 0;
  std::multimap<int64_t, char*> spare_;  // by size
};

Pool& ThePool() {
  static Pool pool;
  return pool;
}

}  // namespace

int& CurrentDevice() {
  static int device = 0;
  return device;
}

DeviceAccess::DeviceAccess() { ThePool().Open(); }
DeviceAccess::~DeviceAccess() { ThePool().Close(); }

}  // namespace cuda_on_host

namespace jevons {

using cuda_on_host::DeviceAccess;

CudaReport ExamineCuda() {
  CudaReport report;
  report.built = true;
  report.cudnn_problem = cuda::CudnnProblem();
  report.devices = {{.name = "the host", .major = 9, .minor = 0, .multiprocessors = 1, .memory_bytes = 0}};
  return report;
}
void UseCudaDevice(int index) { cuda_on_host::CurrentDevice() = index; }

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
  for (int64_t r = 0; r < rows; ++r) std::memset(static_cast<char*>(to) + r * pitch, value, static_cast<size_t>(width));
}
int64_t FreeDeviceBytes() { return int64_t{80} << 30; }
void* NewPinned(int64_t bytes) { return std::malloc(static_cast<size_t>(bytes)); }
void DeletePinned(void* data) { std::free(data); }

Memory::Memory(int64_t capacity) : base_(cuda_on_host::ThePool().Take(capacity)), reserved_(capacity) {}
Memory::~Memory() { cuda_on_host::ThePool().GiveBack(base_, reserved_); }
void Memory::Back(int64_t bytes) {
  JEVONS_CHECK(bytes <= reserved_);
  backed_ = std::max(backed_, bytes);
}

}  // namespace cuda
}  // namespace jevons
