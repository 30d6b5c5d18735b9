// A build without CUDA is complete, and says so where a device is asked for.
#include <gtest/gtest.h>

#include "kernels/ops/op_table.h"
#include "kernels/tensor/device.h"

namespace jevons {
namespace {

TEST(AbsentCuda, IsReported) {
  const CudaReport report = ExamineCuda();
  EXPECT_FALSE(report.built);
  EXPECT_TRUE(report.devices.empty());
  EXPECT_EQ(report.problem, "this program was built without the CUDA backend");
}

TEST(AbsentCudaDeathTest, AbortsWhereItIsUsed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const Stream stream{.device = Device::kCuda};
  EXPECT_DEATH(Ops(stream), "built without the CUDA backend; install the CUDA toolkit");
  EXPECT_DEATH(OwnedStream(Device::kCuda), "built without the CUDA backend");
  EXPECT_DEATH(Arena("device", 1 << 20, Device::kCuda), "built without the CUDA backend");
}

}  // namespace
}  // namespace jevons
