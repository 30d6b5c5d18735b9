// The seam between code for every device and CUDA's runtime: kernels/cuda/device.cc implements these functions, or, in a build
// without CUDA, kernels/cuda/absent.cc, where each aborts and says so. Programs use device.h and Arena.
#ifndef JEVONS_KERNELS_TENSOR_CUDA_BACKEND_H_
#define JEVONS_KERNELS_TENSOR_CUDA_BACKEND_H_

#include <cstdint>

namespace jevons::cuda {

// Streams and events are cudaStream_t and cudaEvent_t.
void* NewStream();
void DeleteStream(void* stream);
void SynchronizeStream(void* stream);
void SynchronizeDevice();
void* NewEvent();
void DeleteEvent(void* event);
void RecordEvent(void* event, void* stream);
void WaitForEvent(void* stream, void* event);
void SynchronizeEvent(void* event);
bool EventHappened(void* event);
double EventMilliseconds(void* begin, void* end);

void CopyBytes(void* stream, const void* from, void* to, int64_t bytes);
// rows x width bytes, `pitch` bytes apart.
void SetBytes(void* stream, void* to, int value, int64_t rows, int64_t width, int64_t pitch);
void* NewPinned(int64_t bytes);
void DeletePinned(void* data);

// Device memory that grows in place: a range of addresses, of which the first backed() bytes exist.
class Memory {
 public:
  explicit Memory(int64_t capacity);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  char* base() const { return base_; }
  int64_t backed() const { return backed_; }
  // Makes the first `bytes` usable; aborts where the device has no more.
  void Back(int64_t bytes);

 private:
  char* base_ = nullptr;
  int64_t reserved_ = 0, backed_ = 0;
};

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_TENSOR_CUDA_BACKEND_H_
