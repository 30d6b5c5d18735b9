// Streams, events, memory of a real device.
#include "kernels/tensor/device.h"

#include <numeric>

#include "kernels/tensor/arena.h"
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

TEST_F(CudaTest, IsAHopper) {
  const CudaReport report = ExamineCuda();
  ASSERT_FALSE(report.devices.empty());
  EXPECT_EQ(report.devices[0].major, 9);
  EXPECT_GT(report.devices[0].multiprocessors, 0);
  EXPECT_GT(report.devices[0].memory_bytes, int64_t{1} << 30);
  EXPECT_GE(report.driver_version, report.runtime_version / 1000 * 1000);
}

TEST_F(CudaTest, StreamsAreOrderedByEvents) {
  OwnedStream first(Device::kCuda), second(Device::kCuda);
  Arena memory("memory", int64_t{1} << 26, Device::kCuda);
  constexpr int64_t kWords = 1 << 20;
  Staging in(Device::kCuda, 4 * kWords), out(Device::kCuda, 4 * kWords);
  auto *from = static_cast<int32_t*>(in.data()), *to = static_cast<int32_t*>(out.data());
  std::iota(from, from + kWords, 5);
  const Tensor words = memory.Allocate("words", DType::kI32, {kWords});
  Event copied(Device::kCuda), begin(Device::kCuda);
  begin.Record(first.get());
  CopyBytes(first.get(), from, words.data, 4 * kWords);
  copied.Record(first.get());
  copied.Wait(second.get());
  CopyBytes(second.get(), words.data, to, 4 * kWords);
  const int64_t before = HostSynchronizations();
  Synchronize(second.get());
  EXPECT_EQ(HostSynchronizations(), before + 1);
  EXPECT_TRUE(std::equal(from, from + kWords, to));
  EXPECT_TRUE(copied.Happened());
  EXPECT_GE(copied.MillisecondsSince(begin), 0);
}

// Addresses stay while memory grows, over several of its steps, and beyond what was used before.
TEST_F(CudaTest, ArenasGrowInPlace) {
  OwnedStream stream(Device::kCuda);
  Arena arena("large", int64_t{8} << 30, Device::kCuda);
  const Tensor first = arena.Allocate("first", DType::kI32, {1});
  const int32_t value = 42;
  CopyBytes(stream.get(), &value, first.data, 4);
  const Tensor large = arena.Allocate("large", DType::kU8, {int64_t{300} << 20});
  Zero(stream.get(), large);
  int32_t back = 0;
  CopyBytes(stream.get(), first.data, &back, 4);
  Synchronize(stream.get());
  EXPECT_EQ(back, 42);
  EXPECT_EQ(arena.peak_bytes(), arena.used_bytes());
}

TEST_F(CudaTest, ZeroRespectsThePitch) {
  DeviceCase c(Device::kCuda, Addresses::kOdd);
  auto& x = c.Make(DType::kBF16, 9, 21);
  Zero(c.ctx().stream, x.tensor());
  x.Fetch();
  for (int64_t i = 0; i < 9 * 21; ++i) EXPECT_EQ(x.Get(i / 21, i % 21), 0);
}

}  // namespace
}  // namespace jevons
