// CUDA operators against the reference. The same tests are two programs: one runs the kernels on a device, and skips without
// one; the other runs them on the host, compiled as C++ (tests/support/cuda_on_host), everywhere.
#ifndef JEVONS_TESTS_KERNELS_CUDA_CUDA_TEST_H_
#define JEVONS_TESTS_KERNELS_CUDA_CUDA_TEST_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/ops/registry.h"
#include "tests/support/device_case.h"

namespace jevons {

// Of the program: how often a case runs, what is done before each, and why it cannot run ("" = it can).
int CudaRepeats();
void BeforeCudaRepeat(int repeat);
std::string CudaRefusal();

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = CudaRefusal(); !reason.empty())
      GTEST_SKIP() << "no CUDA device: " << reason;
  }
};

// How far from the reference an element may be; all zero: the same bits.
struct Bound {
  double relative = 0;    // of the element: BF16 outputs may round to either neighbour (2^-7)
  double of_largest = 0;  // of the largest element of the output
  double absolute = 0;
  bool exact() const { return relative == 0 && of_largest == 0 && absolute == 0; }
};
inline Bound BoundOf(DType dtype, double of_largest = 2e-6) {
  return {dtype == DType::kBF16 ? 0x1p-7 : 0.0, of_largest};
}

inline bool SameValues(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

inline void ExpectNear(const DeviceCase::Output& got, const DeviceCase::Output& expected,
                       const Bound& bound) {
  ASSERT_EQ(got.values.size(), expected.values.size()) << got.name;
  double largest = 0;
  for (double value : expected.values) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < got.values.size(); ++i) {
    const double e = expected.values[i], g = got.values[i];
    if (std::memcmp(&e, &g, sizeof e) == 0) continue;
    if (bound.exact() && std::isnan(e) && std::isnan(g)) continue;  // a NaN's payload is nobody's promise
    ASSERT_TRUE(!bound.exact() &&
                std::abs(g - e) <= bound.relative * std::abs(e) + bound.of_largest * largest + bound.absolute)
        << got.name << "[" << i << "] = " << g << ", the reference has " << e;
  }
}

// Runs the case with the reference on the CPU and, repeatedly, on the device: all runs there must have the same bits, and be
// within the bound of the reference. In both layouts.
inline void CompareWithReference(const std::function<void(DeviceCase&)>& run, const Bound& bound) {
  for (Addresses layout : {Addresses::kOdd, Addresses::kAligned}) {
    SCOPED_TRACE(layout == Addresses::kOdd ? "odd layout" : "aligned layout");
    SelectOps(kRefOps);
    DeviceCase reference(Device::kCpu, layout);
    run(reference);
    std::vector<DeviceCase::Output> first;
    for (int repeat = 0; repeat < CudaRepeats(); ++repeat) {
      BeforeCudaRepeat(repeat);
      DeviceCase device(Device::kCuda, layout);
      run(device);
      if (repeat == 0) {
        first = device.outputs();
        for (size_t i = 0; i < first.size(); ++i) ExpectNear(first[i], reference.outputs()[i], bound);
        continue;
      }
      for (size_t i = 0; i < first.size(); ++i)
        ASSERT_TRUE(SameValues(device.outputs()[i].values, first[i].values))
            << first[i].name << " differs from run to run, at run " << repeat;
    }
    if (testing::Test::HasFatalFailure()) return;
  }
}

inline const DType kRealTypes[] = {DType::kF32, DType::kBF16};
inline const WriteMode kWriteModes[] = {WriteMode::kOverwrite, WriteMode::kAdd};

inline std::vector<int32_t> RandomIds(int64_t n, int64_t limit, uint64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(
        static_cast<int32_t>(RandomBits(seed, 1, static_cast<uint64_t>(i)) % static_cast<uint64_t>(limit)));
  return ids;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_KERNELS_CUDA_CUDA_TEST_H_
