// The device of programs that run kernels on the host: its memory is the host's, its streams run everything at once.
#include "kernels/tensor/device.h"

#include <cstdlib>
#include <cstring>

#include "kernels/tensor/cuda_backend.h"

namespace jevons {

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
  std::memcpy(to, from, static_cast<size_t>(bytes));
}
void SetBytes(void*, void* to, int value, int64_t rows, int64_t width, int64_t pitch) {
  for (int64_t r = 0; r < rows; ++r)
    std::memset(static_cast<char*>(to) + r * pitch, value, static_cast<size_t>(width));
}
void* NewPinned(int64_t bytes) { return std::malloc(static_cast<size_t>(bytes)); }
void DeletePinned(void* data) { std::free(data); }

Memory::Memory(int64_t capacity) : reserved_(capacity), backed_(capacity) {
  base_ = static_cast<char*>(std::aligned_alloc(256, static_cast<size_t>((capacity + 255) / 256 * 256)));
}
Memory::~Memory() { std::free(base_); }
void Memory::Back(int64_t bytes) { JEVONS_CHECK(bytes <= reserved_); }

}  // namespace cuda
}  // namespace jevons
