// CUDA operators against the reference. The same tests are two programs: one runs the kernels on a device, and skips without
// one; the other runs them on the host, compiled as C++ (tests/support/cuda_on_host), everywhere.
#ifndef JEVONS_TESTS_KERNELS_CUDA_CUDA_TEST_H_
#define JEVONS_TESTS_KERNELS_CUDA_CUDA_TEST_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/ref/ref_ops.h"
#include "kernels/registry/registry.h"
#include "tests/support/device_case.h"

namespace jevons {

// Of the program: how often a case runs, what is done before each, and why it cannot run ("" = it can).
int CudaRepeats();
void BeforeCudaRepeat(int repeat);
std::string CudaRefusal();

// The largest deviation of each output of a test, as a part of what it may be: told when the test ends. Where the same bits are
// expected, how many elements have others.
class Deviations {
 public:
  void Note(const std::string& name, double part) { worst_[name] = std::max(worst_[name], std::isnan(part) ? INFINITY : part); }
  void NoteOthers(const std::string& name, int64_t count) { others_[name] += count; }
  void Tell() {
    const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
    for (const auto& [name, part] : worst_) std::printf("deviation %s %s: %.3g of its bound\n", test.c_str(), name.c_str(), part);
    for (const auto& [name, count] : others_)
      if (count > 0)
        std::printf("deviation %s %s: %lld elements have other bits\n", test.c_str(), name.c_str(),
                    static_cast<long long>(count));
    std::fflush(stdout);
    worst_.clear();
    others_.clear();
  }

 private:
  std::map<std::string, double> worst_;
  std::map<std::string, int64_t> others_;
};
inline Deviations& TheDeviations() {
  static Deviations deviations;
  return deviations;
}

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = CudaRefusal(); !reason.empty()) GTEST_SKIP() << "no CUDA device: " << reason;
  }
  void TearDown() override { TheDeviations().Tell(); }
};

// How far from the reference an element may be; all zero: the same bits.
struct Bound {
  double relative = 0;    // of the element: BF16 outputs may round to either neighbour (2^-7)
  double of_largest = 0;  // of the largest element of the output
  double absolute = 0;
  bool exact() const { return relative == 0 && of_largest == 0 && absolute == 0; }
};
inline Bound BoundOf(DType dtype, double of_largest = 2e-6) { return {dtype == DType::kBF16 ? 0x1p-7 : 0.0, of_largest}; }

inline bool SameValues(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

inline void ExpectNear(const DeviceCase::Output& got, const DeviceCase::Output& expected, const Bound& bound) {
  ASSERT_EQ(got.values.size(), expected.values.size()) << got.name;
  double largest = 0;
  for (double value : expected.values) largest = std::max(largest, std::abs(value));
  int64_t others = 0, first = -1;
  for (size_t i = 0; i < got.values.size(); ++i) {
    const double e = expected.values[i], g = got.values[i];
    if (std::memcmp(&e, &g, sizeof e) == 0) continue;
    if (bound.exact() && std::isnan(e) && std::isnan(g)) continue;  // a NaN's payload is nobody's promise
    const double most = bound.relative * std::abs(e) + bound.of_largest * largest + bound.absolute;
    if (!bound.exact()) TheDeviations().Note(got.name, std::abs(g - e) / most);
    if (!bound.exact() && std::abs(g - e) <= most) continue;
    ++others;
    if (first < 0) first = static_cast<int64_t>(i);
  }
  if (bound.exact()) TheDeviations().NoteOthers(got.name, others);
  ASSERT_EQ(others, 0) << got.name << "[" << first << "] = " << got.values[static_cast<size_t>(first)] << ", the reference has "
                       << expected.values[static_cast<size_t>(first)];
}

// Runs the case with the reference on the CPU and, repeatedly, on the device: all runs there must have the same bits, and be
// within the bound of the reference. In both layouts, unless said.
inline void CompareWithReference(const std::function<void(DeviceCase&)>& run, const Bound& bound,
                                 const std::vector<Addresses>& layouts = {Addresses::kOdd, Addresses::kAligned}) {
  for (Addresses layout : layouts) {
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
    ids.push_back(static_cast<int32_t>(RandomBits(seed, 1, static_cast<uint64_t>(i)) % static_cast<uint64_t>(limit)));
  return ids;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_KERNELS_CUDA_CUDA_TEST_H_
