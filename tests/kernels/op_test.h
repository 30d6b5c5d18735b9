// Runs an operator in both tables, with one thread and with two, on tensors between guard bands.
#ifndef JEVONS_TESTS_KERNELS_OP_TEST_H_
#define JEVONS_TESTS_KERNELS_OP_TEST_H_

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hwy/targets.h"
#include "kernels/base/philox.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/ref/ref_ops.h"
#include "kernels/registry/registry.h"

namespace jevons {

// A matrix whose rows lie `gap` elements apart, in memory filled with NaN: whoever forgets an output leaves a
// NaN, whoever writes beside it breaks the guard.
class Guarded {
 public:
  Guarded(DType dtype, int64_t rows, int64_t cols, int64_t gap = 3)
      : rows_(rows),
        cols_(cols),
        pitch_(cols + gap),
        size_(SizeOf(dtype)),
        bytes_(static_cast<size_t>((rows * pitch_ + 2 * kGuard) * size_), 0xFF) {
    tensor = Tensor(bytes_.data() + kGuard * size_, dtype, {rows, cols});
    tensor.pitch = pitch_;
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { EXPECT_TRUE(Intact()) << "memory beside " << tensor.ToString() << " was written"; }

  // Normal numbers, a function of the seed.
  Guarded& Fill(uint64_t seed, float scale = 1, float offset = 0) {
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < cols_; ++c)
        Set(r, c, offset + scale * static_cast<float>(RandomNormal(seed, 0, static_cast<uint64_t>(r * cols_ + c))));
    return *this;
  }
  void Set(int64_t r, int64_t c, float value) {
    if (tensor.dtype == DType::kBF16) {
      tensor.row<bf16>(r)[c] = bf16(value);
    } else {
      tensor.row<float>(r)[c] = value;
    }
  }
  float Get(int64_t r, int64_t c) const {
    return tensor.dtype == DType::kBF16 ? static_cast<float>(tensor.row<bf16>(r)[c]) : tensor.row<float>(r)[c];
  }
  std::vector<float> Values() const {
    std::vector<float> values;
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < cols_; ++c) values.push_back(Get(r, c));
    return values;
  }
  bool Intact() const {
    const auto untouched = [&](int64_t begin, int64_t end) {  // elements
      return std::all_of(bytes_.begin() + begin * size_, bytes_.begin() + end * size_, [](uint8_t b) { return b == 0xFF; });
    };
    bool intact = untouched(0, kGuard) && untouched(kGuard + rows_ * pitch_, rows_ * pitch_ + 2 * kGuard);
    for (int64_t r = 0; r < rows_; ++r) intact = intact && untouched(kGuard + r * pitch_ + cols_, kGuard + (r + 1) * pitch_);
    return intact;
  }

  Tensor tensor;

 private:
  static constexpr int64_t kGuard = 64;
  int64_t rows_, cols_, pitch_, size_;
  std::vector<uint8_t> bytes_;
};

// A contiguous vector between guard bands.
class GuardedVector : public Guarded {
 public:
  GuardedVector(DType dtype, int64_t n) : Guarded(dtype, 1, n) {}
};

inline OpContext TestContext() {
  static Arena* arena = new Arena("test", int64_t{1} << 32);
  return {.stream = {}, .scratch = arena};
}

struct Output {
  std::string name;
  std::vector<float> values;
};
using Outputs = std::vector<Output>;

// Bits, so that NaN equals NaN and +0 differs from -0.
inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

struct Tolerance {
  double relative = 0;    // of the element: BF16 outputs may round to either neighbour (2^-7)
  double of_largest = 0;  // of the largest element of the output
  double absolute = 0;    // for outputs that may be zero but for rounding
};
inline Tolerance ToleranceOf(DType dtype, double of_largest = 2e-6) { return {dtype == DType::kBF16 ? 0x1p-7 : 0.0, of_largest}; }

// Element by element; no NaN.
inline void ExpectClose(const Output& a, const Output& b, const Tolerance& tolerance) {
  ASSERT_EQ(a.values.size(), b.values.size()) << a.name;
  double largest = 0;
  for (float value : b.values) largest = std::max(largest, std::abs(double{value}));
  for (size_t i = 0; i < a.values.size(); ++i) {
    const double error = std::abs(double{a.values[i]} - double{b.values[i]});
    ASSERT_LE(error, tolerance.relative * std::abs(double{b.values[i]}) + tolerance.of_largest * largest + tolerance.absolute)
        << a.name << "[" << i << "] = " << a.values[i] << " for " << b.values[i];
  }
}

class TableScope {
 public:
  TableScope(const OpTable& table, int threads) : before_(Ops()), threads_(omp_get_max_threads()) {
    SelectOps(table);
    omp_set_num_threads(threads);
  }
  ~TableScope() {
    SelectOps(before_);
    omp_set_num_threads(threads_);
  }

 private:
  const OpTable& before_;
  int threads_;
};

// Makes the operators choose among these instruction sets only (Highway's bits).
class InstructionSetScope {
 public:
  explicit InstructionSetScope(int64_t targets) { Choose(targets); }
  ~InstructionSetScope() { Choose(0); }  // 0: what the machine has

 private:
  static void Choose(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().DeInit();
  }
};

// `run` makes its inputs from fixed seeds, calls the operator and returns its outputs. They must be the same
// bits with one thread and two and three, and close to the reference with every instruction set that the
// machine has.
inline void CompareTables(const std::function<Outputs()>& run, const Tolerance& tolerance) {
  const auto with = [&](const OpTable& table, int threads) {
    TableScope scope(table, threads);
    return run();
  };
  const Outputs expected = with(kRefOps, 1), one = with(kCpuOps, 1), two = with(kCpuOps, 2), three = with(kCpuOps, 3);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(SameBits(one[i].values, two[i].values)) << one[i].name << ": two threads differ from one";
    EXPECT_TRUE(SameBits(one[i].values, three[i].values)) << one[i].name << ": three threads differ from one";
    ExpectClose(one[i], expected[i], tolerance);
  }
  for (int64_t target : {int64_t{HWY_AVX2}, int64_t{HWY_SCALAR}}) {
    if ((hwy::SupportedTargets() & target) == 0) continue;
    SCOPED_TRACE(hwy::TargetName(target));
    InstructionSetScope scope(target);
    const Outputs narrow = with(kCpuOps, 1);
    for (size_t i = 0; i < expected.size(); ++i) ExpectClose(narrow[i], expected[i], tolerance);
  }
}

}  // namespace jevons

#endif  // JEVONS_TESTS_KERNELS_OP_TEST_H_
