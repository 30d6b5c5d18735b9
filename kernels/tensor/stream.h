// Stream: the order in which work happens on a device. The CPU's stream runs each operation at once, on the calling
// thread and its OpenMP team, so the same program serves both backends (architecture, contract 7).
#ifndef JEVONS_KERNELS_TENSOR_STREAM_H_
#define JEVONS_KERNELS_TENSOR_STREAM_H_

namespace jevons {

enum class Device { kCpu, kCuda };

struct Stream {
  Device device = Device::kCpu;
  void* handle = nullptr;  // a cudaStream_t on kCuda
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_STREAM_H_
