// What a program asks of a device besides operators, with one meaning for all devices: streams, events, copies, page-locked
// memory. On the CPU a stream runs everything at once, so a recorded event has happened and waiting returns. On kNone nothing runs:
// copies copy nothing, what is fetched is zero, every event has happened, and no time has passed.
//
//   OwnedStream compute(Device::kCuda), copies(Device::kCuda);
//   Event ready(Device::kCuda);
//   ready.Record(compute.get());
//   ready.Wait(copies.get());                                  // what `copies` is given from here on runs after `ready`
//   CopyBytes(copies.get(), device_pointer, staging.data(), bytes);
//   Synchronize(copies.get());                                 // the host waits; counted
//
// A failure of the device (an error of an earlier kernel too) aborts with file, line, call and the runtime's message: error
// tier 3. A build without CUDA aborts where Device::kCuda is asked for.
#ifndef JEVONS_KERNELS_TENSOR_DEVICE_H_
#define JEVONS_KERNELS_TENSOR_DEVICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/tensor/stream.h"
#include "kernels/tensor/tensor.h"

namespace jevons {

// A stream with its owner; work on different streams is ordered by events alone, never by a default stream.
class OwnedStream {
 public:
  // counted: on kNone, the backend whose memory is counted.
  explicit OwnedStream(Device device, Device counted = Device::kCpu);
  ~OwnedStream();
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  const Stream& get() const { return stream_; }

 private:
  Stream stream_;
};

// A point in the work of a stream.
class Event {
 public:
  explicit Event(Device device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void Record(const Stream& stream);
  void Wait(const Stream& stream) const;  // the stream waits, not the host
  void Synchronize() const;               // the host waits; counted
  bool Happened() const;
  // From `begin` to this event; both must have happened.
  double MillisecondsSince(const Event& begin) const;

 private:
  Device device_;
  void* handle_ = nullptr;  // a cudaEvent_t
  double recorded_ms_ = 0;  // on the CPU
};

// Waits until everything given to the stream is done.
void Synchronize(const Stream& stream);

// How often the host has waited for a device in this process: a training step should do so once, to read counts.
int64_t HostSynchronizations();

// Copies in stream order between any two places; page-locked host memory lets the host go on meanwhile.
void CopyBytes(const Stream& stream, const void* from, void* to, int64_t bytes);

// CopyBytes to the host, which waits for it.
void Fetch(const Stream& stream, const void* from, void* to, int64_t bytes);

// dst = 0 in stream order; respects the pitch.
void Zero(const Stream& stream, const Tensor& dst);

// Host memory that the device reads and writes directly; on the CPU plain memory, on kNone plain memory of zeros, which is what
// arrives from there. 64-byte aligned.
class Staging {
 public:
  Staging(Device device, int64_t bytes);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  Device device_;
  int64_t bytes_;
  void* data_ = nullptr;
};

struct CudaDevice {
  std::string name;          // "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
};

struct CudaReport {
  bool built = false;                           // this program has the CUDA backend
  int driver_version = 0, runtime_version = 0;  // 13000 for 13.0; 0 = none
  std::vector<CudaDevice> devices;
  std::string problem;        // why no CUDA stream can be had; empty where one can
  std::string cudnn_problem;  // why attention cannot go to cuDNN; empty where it can
};
CudaReport ExamineCuda();

// The device of this process's streams, arenas and operators; 0 unless said.
void UseCudaDevice(int index);

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_DEVICE_H_
