#include "kernels/tensor/device.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "kernels/tensor/cuda_backend.h"

namespace jevons {
namespace {

std::atomic<int64_t> host_synchronizations = 0;

double NowMs() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

OwnedStream::OwnedStream(Device device, Device counted)
    : stream_{device, device == Device::kCuda ? cuda::NewStream() : nullptr, counted} {}

OwnedStream::~OwnedStream() {
  if (stream_.handle != nullptr) cuda::DeleteStream(stream_.handle);
}

Event::Event(Device device) : device_(device), handle_(device == Device::kCuda ? cuda::NewEvent() : nullptr) {}

Event::~Event() {
  if (handle_ != nullptr) cuda::DeleteEvent(handle_);
}

void Event::Record(const Stream& stream) {
  JEVONS_CHECK(stream.device == device_, "event and stream are of different devices");
  if (device_ == Device::kCuda) return cuda::RecordEvent(handle_, stream.handle);
  if (device_ == Device::kCpu) recorded_ms_ = NowMs();
}

void Event::Wait(const Stream& stream) const {
  if (device_ != Device::kCuda) return;  // it happened when it was recorded
  if (stream.device == Device::kCuda) return cuda::WaitForEvent(stream.handle, handle_);
  Synchronize();  // the CPU's stream is the host itself
}

void Event::Synchronize() const {
  if (device_ != Device::kCuda) return;
  ++host_synchronizations;
  cuda::SynchronizeEvent(handle_);
}

bool Event::Happened() const { return device_ != Device::kCuda || cuda::EventHappened(handle_); }

double Event::MillisecondsSince(const Event& begin) const {
  JEVONS_CHECK(begin.device_ == device_, "events are of different devices");
  if (device_ == Device::kCuda) return cuda::EventMilliseconds(begin.handle_, handle_);
  return recorded_ms_ - begin.recorded_ms_;
}

void Synchronize(const Stream& stream) {
  if (stream.device != Device::kCuda) return;
  ++host_synchronizations;
  cuda::SynchronizeStream(stream.handle);
}

int64_t HostSynchronizations() { return host_synchronizations; }

void CopyBytes(const Stream& stream, const void* from, void* to, int64_t bytes) {
  if (bytes == 0 || stream.device == Device::kNone) return;
  if (stream.device == Device::kCuda) return cuda::CopyBytes(stream.handle, from, to, bytes);
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

void Fetch(const Stream& stream, const void* from, void* to, int64_t bytes) {
  if (stream.device == Device::kNone && bytes > 0) std::memset(to, 0, static_cast<size_t>(bytes));
  CopyBytes(stream, from, to, bytes);
  Synchronize(stream);
}

void Zero(const Stream& stream, const Tensor& dst) {
  if (stream.device == Device::kCpu) return Zero(dst);
  if (dst.size() == 0 || stream.device == Device::kNone) return;
  const int64_t size = SizeOf(dst.dtype);
  if (dst.contiguous()) return cuda::SetBytes(stream.handle, dst.data, 0, 1, dst.bytes(), dst.bytes());
  cuda::SetBytes(stream.handle, dst.data, 0, dst.rows(), dst.cols() * size, dst.pitch * size);
}

Staging::Staging(Device device, int64_t bytes) : device_(device), bytes_(bytes) {
  JEVONS_CHECK(bytes >= 0, "%lld bytes", static_cast<long long>(bytes));
  constexpr int64_t kAlignment = 64;
  const int64_t whole = bytes < kAlignment ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_ = device == Device::kCuda ? cuda::NewPinned(whole)
                                  : std::aligned_alloc(static_cast<size_t>(kAlignment), static_cast<size_t>(whole));
  JEVONS_CHECK(data_ != nullptr, "no memory for %lld bytes of staging", static_cast<long long>(bytes));
  if (device == Device::kNone) std::memset(data_, 0, static_cast<size_t>(whole));
}

Staging::~Staging() {
  if (device_ == Device::kCuda) {
    cuda::DeletePinned(data_);
  } else {
    std::free(data_);
  }
}

}  // namespace jevons
