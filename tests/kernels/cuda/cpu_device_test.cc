// Streams, events and staging on the CPU, where everything happens at once.
#include <gtest/gtest.h>

#include "kernels/tensor/arena.h"
#include "kernels/tensor/device.h"

namespace jevons {
namespace {

TEST(CpuDevice, RunsAtOnceAndNeverWaits) {
  OwnedStream stream(Device::kCpu);
  EXPECT_EQ(stream.get().device, Device::kCpu);
  const int64_t before = HostSynchronizations();
  Event begin(Device::kCpu), end(Device::kCpu);
  begin.Record(stream.get());
  Staging staging(Device::kCpu, 100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(staging.data()) % 64, 0u);
  const int32_t value = 7;
  CopyBytes(stream.get(), &value, staging.data(), sizeof value);
  EXPECT_EQ(*static_cast<int32_t*>(staging.data()), 7);
  end.Record(stream.get());
  end.Wait(stream.get());
  end.Synchronize();
  Synchronize(stream.get());
  EXPECT_TRUE(end.Happened());
  EXPECT_GE(end.MillisecondsSince(begin), 0);
  EXPECT_EQ(HostSynchronizations(), before);
}

TEST(CpuDevice, ZeroRespectsThePitch) {
  float values[6] = {1, 2, 3, 4, 5, 6};
  Tensor t = Tensor::Of(values, {2, 2});
  t.pitch = 3;
  Zero(Stream{}, t);
  EXPECT_EQ(values[0] + values[1] + values[3] + values[4], 0);
  EXPECT_EQ(values[2], 3);
  EXPECT_EQ(values[5], 6);
}

TEST(CpuDevice, ArenasAreOfTheCpuUnlessSaid) {
  Arena arena("host", 1 << 20);
  EXPECT_EQ(arena.device(), Device::kCpu);
}

}  // namespace
}  // namespace jevons
