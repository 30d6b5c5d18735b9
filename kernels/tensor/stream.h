// Stream: the order in which work happens on a device. The CPU's stream runs each operation at once, on the calling
// thread and its OpenMP team, so the same program serves both backends (trainer/DESIGN.md, contract 7). Device::kNone runs nothing:
// its arenas count what the same program would take of a backend's memory (contract 11).
#ifndef JEVONS_KERNELS_TENSOR_STREAM_H_
#define JEVONS_KERNELS_TENSOR_STREAM_H_

namespace jevons {

enum class Device { kCpu, kCuda, kNone };

struct Stream {
  Device device = Device::kCpu;
  void* handle = nullptr;         // a cudaStream_t on kCuda
  Device counted = Device::kCpu;  // on kNone: the backend whose memory is counted

  // Whose operators' needs and habits hold here.
  Device backend() const { return device == Device::kNone ? counted : device; }
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_STREAM_H_
