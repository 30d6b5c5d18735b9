// Runs the quantisations between guard bands and compares their results: on all tables, instruction sets and numbers of threads.
#ifndef JEVONS_TESTS_KERNELS_FP8_QUANTIZED_H_
#define JEVONS_TESTS_KERNELS_FP8_QUANTIZED_H_

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/ops/quantize.h"
#include "tests/kernels/op_test.h"

namespace jevons {

inline constexpr float kInf = std::numeric_limits<float>::infinity();

// The quantised form of a matrix, and what quantising it counted. Guard bands around every buffer, rows 3 elements apart.
struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  QuantStats stats;
};

struct Buffers {
  Buffers(int64_t rows, int64_t cols, Tiling tiling, NumberFormat format)
      : codes(DType::kU8, CodesShape(rows, cols, tiling, format).rows(), CodesShape(rows, cols, tiling, format).cols()),
        scales(DType::kF32, ScalesShape(rows, cols, tiling).rows(), ScalesShape(rows, cols, tiling).cols()) {}
  Quantized Read(const QuantStats& stats) const {
    Quantized q{.codes = {}, .scales = scales.Values(), .stats = stats};
    for (int64_t r = 0; r < codes.tensor.rows(); ++r)
      q.codes.insert(q.codes.end(), codes.tensor.row<uint8_t>(r), codes.tensor.row<uint8_t>(r) + codes.tensor.cols());
    return q;
  }
  Guarded codes, scales;
};

inline Quantized RunQuantize(const Tensor& x, Tiling tiling, ScaleKind kind, NumberFormat format, bool count = true) {
  Buffers out(x.rows(), x.cols(), tiling, format);
  QuantStats stats;
  Quantize(TestContext(), {.x = x,
                           .codes = out.codes.tensor,
                           .scales = out.scales.tensor,
                           .tiling = tiling,
                           .scale_kind = kind,
                           .format = format,
                           .stats = count ? &stats : nullptr});
  return out.Read(stats);
}

inline Tensor CodesOf(Quantized& q, int64_t rows, int64_t cols, Tiling tiling, NumberFormat format) {
  return Tensor::Of(q.codes.data(), CodesShape(rows, cols, tiling, format));
}
inline Tensor ScalesOf(Quantized& q, int64_t rows, int64_t cols, Tiling tiling) {
  return Tensor::Of(q.scales.data(), ScalesShape(rows, cols, tiling));
}

inline std::vector<float> RunDequantize(Quantized q, int64_t rows, int64_t cols, Tiling tiling, NumberFormat format,
                                        DType dtype = DType::kF32) {
  Guarded x(dtype, rows, cols);
  Dequantize(TestContext(), {.codes = CodesOf(q, rows, cols, tiling, format),
                             .scales = ScalesOf(q, rows, cols, tiling),
                             .x = x.tensor,
                             .tiling = tiling,
                             .format = format});
  return x.Values();
}

inline Quantized RunRequantize(Quantized q, int64_t rows, int64_t cols, ScaleKind kind, NumberFormat format, bool count = true) {
  Buffers out(rows, cols, Tiling::kColumns128x1, format);
  QuantStats stats;
  const RequantizeDesc desc = {.codes = CodesOf(q, rows, cols, Tiling::kRows1x128, format),
                               .scales = ScalesOf(q, rows, cols, Tiling::kRows1x128),
                               .out_codes = out.codes.tensor,
                               .out_scales = out.scales.tensor,
                               .scale_kind = kind,
                               .format = format,
                               .stats = count ? &stats : nullptr};
  RequantizeTransposed(TestContext(), {&desc, 1});
  return out.Read(stats);
}

inline void ExpectSame(const Quantized& a, const Quantized& b, bool stats = true) {
  EXPECT_TRUE(a.codes == b.codes);
  EXPECT_TRUE(SameBits(a.scales, b.scales));
  EXPECT_TRUE(!stats || a.stats == b.stats);
}

// What inputs may be: normal numbers of widely different rows, with zeros; or also tiny, huge, NaN and infinite ones.
inline void Scatter(Guarded& x, uint64_t seed, bool hostile) {
  const float hostiles[] = {NAN, -NAN, kInf, -kInf, 3.4e38f, -3.4e38f, 1e-45f, -1e-40f, -0.0f, 1e-4f};
  for (int64_t r = 0; r < x.tensor.rows(); ++r) {
    for (int64_t c = 0; c < x.tensor.cols(); ++c) {
      const auto i = static_cast<uint64_t>(r * x.tensor.cols() + c);
      const uint64_t bits = RandomBits(seed, 1, i);
      const float size = std::ldexp(1.0f, static_cast<int>(RandomBits(seed, 3, i % 97) % 24) - 16);
      float value = size * static_cast<float>(RandomNormal(seed, 2, i));
      if (bits % 13 == 0) value = 0;
      if (hostile && bits % 251 == 1) value = hostiles[(bits >> 32) % std::size(hostiles)];
      x.Set(r, c, value);
    }
  }
}

struct Case {
  int64_t rows, cols;
  bool hostile;
};
inline const Case kCases[] = {{1, 1, false},   {1, 7, true},     {3, 130, false},  {5, 128, true},   {128, 128, false},
                              {129, 65, true}, {200, 300, true}, {257, 64, false}, {130, 257, true}, {64, 1, false}};

inline std::string NameOfTarget(int64_t target) { return target == 0 ? "best" : hwy::TargetName(target); }

// run() must give the reference's bits on every number of threads and instruction set.
inline void ExpectSameEverywhere(const std::function<Quantized()>& run, bool stats = true) {
  const auto with = [&](const OpTable& table, int threads) {
    TableScope scope(table, threads);
    return run();
  };
  const Quantized expected = with(kRefOps, 1);
  for (int64_t target : {int64_t{0}, int64_t{HWY_AVX2}, int64_t{HWY_SCALAR}}) {
    if (target != 0 && (hwy::SupportedTargets() & target) == 0) continue;
    SCOPED_TRACE(NameOfTarget(target));
    InstructionSetScope scope(target);
    ExpectSame(with(kCpuOps, 1), expected, stats);
    ExpectSame(with(kCpuOps, 3), expected, stats);
  }
}

}  // namespace jevons

#endif  // JEVONS_TESTS_KERNELS_FP8_QUANTIZED_H_
