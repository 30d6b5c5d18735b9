#include "trainer/optim/weight_average.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "kernels/base/check.h"

namespace jevons {
namespace {

// Between two looks at copies from a device: the thread has a whole step's time, and a host that waits would be counted.
constexpr std::chrono::microseconds kPause(200);

int64_t BytesOf(const std::vector<Tensor>& slices) {
  int64_t bytes = 0;
  for (const Tensor& slice : slices) bytes += Arena::SliceBytes(slice.dtype, slice.shape);
  return bytes;
}

}  // namespace

WeightAverage::WeightAverage(double decay, std::vector<Tensor> masters, const Stream& stream)
    : rest_(static_cast<float>(1 - decay)),
      masters_(std::move(masters)),
      device_(stream.device),
      arena_("average of the weights", std::max<int64_t>(1, BytesOf(masters_)),
             device_ == Device::kNone ? Device::kNone : Device::kCpu),
      arrived_(masters_),
      arrived_bytes_(stream.backend() == Device::kCuda ? BytesOf(masters_) : 0),
      copies_(stream.device, stream.backend()),
      updated_(stream.device),
      copied_(stream.device) {
  for (const Tensor& master : masters_) averages_.push_back(arena_.Allocate("average", DType::kF32, master.shape));
  if (device_ != Device::kCuda) return;
  staging_ = std::make_unique<Staging>(device_, std::max<int64_t>(1, arrived_bytes_));
  auto* place = static_cast<std::byte*>(staging_->data());
  for (Tensor& slice : arrived_) {
    slice.data = place;
    place += Arena::SliceBytes(slice.dtype, slice.shape);
  }
}

void WeightAverage::Reset(const Stream& stream) {
  Finish();
  for (size_t i = 0; i < masters_.size(); ++i) CopyBytes(stream, masters_[i].data, averages_[i].data, masters_[i].bytes());
  Synchronize(stream);
}

void WeightAverage::Begin(const Stream& stream) {
  JEVONS_CHECK(!std::exchange(under_way_, true), "the average of the weights is under way");
  if (device_ == Device::kNone) return;
  if (device_ == Device::kCuda) {
    updated_.Record(stream);
    updated_.Wait(copies_.get());
    for (size_t i = 0; i < masters_.size(); ++i)
      CopyBytes(copies_.get(), masters_[i].data, arrived_[i].data, masters_[i].bytes());
    copied_.Record(copies_.get());
  }
  worker_.Give([this] {
    while (!copied_.Happened()) std::this_thread::sleep_for(kPause);
    Update();
  });
}

void WeightAverage::Finish() {
  worker_.Wait();
  under_way_ = false;
}

const Tensor& WeightAverage::of(size_t i) const {
  JEVONS_CHECK(!under_way_, "the average of the weights is under way");
  return averages_[i];
}

void WeightAverage::Update() {
  for (size_t i = 0; i < averages_.size(); ++i) {
    auto* average = averages_[i].as<float>();
    const auto* weight = arrived_[i].as<float>();
    for (int64_t j = 0; j < averages_[i].size(); ++j) average[j] += rest_ * (weight[j] - average[j]);
  }
}

}  // namespace jevons
