// SwiGLU and quantisation in one are, bit by bit, the two one after the other: on each table, instruction set and number of threads.
#include "kernels/ops/swiglu_quantize.h"

#include <gtest/gtest.h>

#include "kernels/ops/swiglu.h"
#include "tests/kernels/fp8/quantized.h"

namespace jevons {
namespace {

struct Input {
  Tensor gate_up, weight;
  ScaleKind kind;
  bool count;
};

Quantized OneAfterTheOther(const Input& in) {
  const int64_t rows = in.gate_up.rows(), inner = in.gate_up.cols() / 2;
  Guarded y(in.gate_up.dtype, rows, inner);
  SwiGlu(TestContext(), in.gate_up, in.weight, y.tensor);
  return RunQuantize(y.tensor, Tiling::kRows1x128, in.kind, NumberFormat::kE4M3, in.count);
}

Quantized Together(const Input& in) {
  Buffers out(in.gate_up.rows(), in.gate_up.cols() / 2, Tiling::kRows1x128, NumberFormat::kE4M3);
  QuantStats stats;
  SwiGluQuantize(TestContext(), {.gate_up = in.gate_up,
                                 .weight = in.weight,
                                 .codes = out.codes.tensor,
                                 .scales = out.scales.tensor,
                                 .scale_kind = in.kind,
                                 .stats = in.count ? &stats : nullptr});
  return out.Read(stats);
}

void ExpectAlike(const Input& in) {
  const auto compare = [&](const OpTable& table, int threads) {
    TableScope scope(table, threads);
    ExpectSame(Together(in), OneAfterTheOther(in));
  };
  compare(kRefOps, 1);
  for (const int64_t target : {int64_t{0}, int64_t{HWY_AVX2}, int64_t{HWY_SCALAR}}) {
    if (target != 0 && (hwy::SupportedTargets() & target) == 0) continue;
    SCOPED_TRACE(NameOfTarget(target));
    InstructionSetScope scope(target);
    compare(kCpuOps, 1);
    compare(kCpuOps, 3);
  }
}

TEST(SwiGluQuantize, HasTheBitsOfBoth) {
  const Case cases[] = {{0, 8, false},    {1, 1, false},    {3, 130, false},       {5, 128, true},
                        {70, 515, false}, {9, 2048, false}, {11, 2048 + 130, true}};  // of one strip and of two
  for (const Case& test : cases) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Guarded gate_up(dtype, test.rows, 2 * test.cols);
      Scatter(gate_up, static_cast<uint64_t>(test.cols), test.hostile);
      GuardedVector weight(DType::kF32, test.rows);
      weight.Fill(2);
      for (const bool weighted : {false, true})
        for (const ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo})
          for (const bool count : {false, true}) {
            SCOPED_TRACE(testing::Message() << gate_up.tensor.ToString() << " weighted " << weighted);
            ExpectAlike({gate_up.tensor, weighted ? weight.tensor : Tensor(), kind, count});
          }
    }
  }
}

TEST(SwiGluQuantize, CountsWhatIsLost) {
  Guarded gate_up(DType::kF32, 4, 2 * 200);
  Scatter(gate_up, 3, true);
  const Quantized q = Together({gate_up.tensor, Tensor(), ScaleKind::kFp32, true});
  EXPECT_EQ(q.stats.elements, 4 * 200);
  EXPECT_GT(q.stats.nonfinite, 0);
  EXPECT_GT(q.stats.underflowed, 0);
}

TEST(SwiGluQuantizeDeath, NamesWhatDoesNotFit) {
  Guarded gate_up(DType::kF32, 4, 2 * 200);
  Buffers out(4, 100, Tiling::kRows1x128, NumberFormat::kE4M3);
  EXPECT_DEATH(SwiGluQuantize(TestContext(),
                              {.gate_up = gate_up.tensor, .weight = {}, .codes = out.codes.tensor, .scales = out.scales.tensor}),
               "gate_up");
}

}  // namespace
}  // namespace jevons
