// What a step does to slices of parameters: reductions, the join of partial sums, AdamW, copies.
#include <deque>
#include <limits>

#include "tests/kernels/op_test.h"

namespace jevons {
namespace {

const DType kTypes[] = {DType::kF32, DType::kBF16};

Tensor VectorOf(auto& values) { return Tensor::Of(values.data(), {static_cast<int64_t>(values.size())}); }

constexpr int64_t kWhole = 64 * kSquaresBlock;  // more than any vector here has

void Squares(const Tensor& x, int64_t chunk, double* sums) {
  const SquaresSlice slice = {x, sums};
  SumsOfSquares(TestContext(), {&slice, 1}, chunk);
}

TEST(Reduce, SumsAreExactEnoughAndFixed) {
  for (int64_t n : {0, 1, 15, 17, 16384, 16385, 100003}) {
    GuardedVector x(DType::kF32, n);
    x.Fill(1);
    double squares = 0, sum = 0;
    for (float value : x.Values()) {
      squares += double{value} * double{value};
      sum += double{value};
    }
    double results[2] = {0, 0};  // as they are of no elements
    for (int threads : {1, 2}) {
      TableScope scope(kCpuOps, threads);
      double total = -1;
      Squares(x.tensor, kWhole, &results[threads - 1]);
      Sum(TestContext(), x.tensor, &total);
      EXPECT_NEAR(results[threads - 1], squares, 1e-12 * squares);
      EXPECT_EQ(total, sum);
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

TEST(Reduce, ChunksAreSumsOfTheirOwn) {
  GuardedVector x(DType::kF32, 5 * kSquaresBlock + 7);
  x.Fill(2);
  for (const OpTable* table : {&kCpuOps, &kRefOps}) {
    TableScope scope(*table, 2);
    double sums[3], alone = 0;
    Squares(x.tensor, 2 * kSquaresBlock, sums);
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t begin = 2 * i * kSquaresBlock;
      Squares(x.tensor.Columns(begin, std::min(2 * kSquaresBlock, x.tensor.size() - begin)), kWhole, &alone);
      EXPECT_EQ(sums[i], alone) << table->name << " " << i;
    }
  }
}

TEST(Reduce, ManySlicesHaveTheSumsOfEach) {
  constexpr int64_t kChunk = 2 * kSquaresBlock;
  std::deque<GuardedVector> x;
  std::vector<SquaresSlice> slices;
  std::vector<double> sums(20, -1.0);
  int64_t chunks = 0;
  for (int64_t n : {int64_t{0}, int64_t{1}, kSquaresBlock, kChunk, kChunk + 1, int64_t{0}, int64_t{100003}, int64_t{7}}) {
    slices.push_back({x.emplace_back(DType::kF32, n).Fill(slices.size()).tensor, sums.data() + chunks});
    chunks += (n + kChunk - 1) / kChunk;
  }
  for (const OpTable* table : {&kCpuOps, &kRefOps}) {
    for (int threads : {1, 2, 3}) {
      TableScope scope(*table, threads);
      std::fill(sums.begin(), sums.end(), -1.0);
      SumsOfSquares(TestContext(), slices, kChunk);
      std::vector<double> alone(sums.size(), -1.0);
      for (const SquaresSlice& slice : slices) Squares(slice.x, kChunk, alone.data() + (slice.sums - sums.data()));
      EXPECT_EQ(sums, alone) << table->name;
      EXPECT_EQ(sums[static_cast<size_t>(chunks)], -1.0) << "written beyond the last chunk";
    }
  }
  SumsOfSquares(TestContext(), {}, kChunk);
}

TEST(Reduce, NanAndInfinityComeThrough) {
  GuardedVector x(DType::kF32, 40000);
  x.Fill(1).Set(0, 31234, std::numeric_limits<float>::infinity());
  double squares = 0, sum = 0;
  Squares(x.tensor, kWhole, &squares);
  EXPECT_TRUE(std::isinf(squares));
  x.Set(0, 3, std::nanf(""));
  Squares(x.tensor, kWhole, &squares);
  Sum(TestContext(), x.tensor, &sum);
  EXPECT_TRUE(std::isnan(squares));
  EXPECT_TRUE(std::isnan(sum));
}

TEST(Reduce, TreeSumAddsInTreeOrder) {
  const std::vector<double> v = {1e16, 1, -1e16, 1, 3, 1e-3, 7};
  const std::span<const double> all(v);
  EXPECT_EQ(TreeSum(all.first(0)), 0);
  EXPECT_EQ(TreeSum(all.first(1)), v[0]);
  EXPECT_EQ(TreeSum(all.first(3)), (v[0] + v[1]) + v[2]);
  EXPECT_EQ(TreeSum(all.first(5)), ((v[0] + v[1]) + (v[2] + v[3])) + v[4]);
  EXPECT_EQ(TreeSum(all), ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + v[6]));
  EXPECT_NE(TreeSum(all.first(4)), v[0] + v[1] + v[2] + v[3]);  // the order is visible in these numbers
}

struct AdamWState {
  AdamWState(DType moments, int64_t n)
      : master(DType::kF32, n), grad(DType::kF32, n), m(moments, n), v(moments, n), compute(DType::kBF16, n) {
    master.Fill(1);
    for (int64_t i = 0; i < n; ++i) {
      m.Set(0, i, 0);
      v.Set(0, i, 0);
    }
  }
  AdamWSlice Slice(float decay = 0.1f) const {
    return {
        .master = master.tensor, .grad = grad.tensor, .m = m.tensor, .v = v.tensor, .compute = compute.tensor, .decay = decay};
  }
  void Step(int64_t step) {
    grad.Fill(static_cast<uint64_t>(10 + step));
    const AdamWSlice slice = Slice();
    AdamW(TestContext(), DescOf(step), {&slice, 1});
  }
  static AdamWDesc DescOf(int64_t step) {
    return {.learning_rate = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .grad_scale = 0.5f, .step = step};
  }
  Outputs Values() const {
    return {{"master", master.Values()}, {"m", m.Values()}, {"v", v.Values()}, {"compute", compute.Values()}};
  }
  GuardedVector master, grad, m, v, compute;
};

TEST(AdamW, HasTheBitsOfTheReference) {
  for (DType moments : kTypes) {
    for (int64_t n : {0, 1, 77, 20011}) {
      CompareTables(
          [&]() -> Outputs {
            AdamWState state(moments, n);
            for (int64_t step = 1; step <= 3; ++step) state.Step(step);
            return state.Values();
          },
          {});
    }
  }
}

TEST(AdamW, ManySlicesHaveTheBitsOfEach) {
  const int64_t sizes[] = {0, 1, 2, 0, 77, 16384, 20011, 3};
  for (DType moments : kTypes) {
    for (const OpTable* table : {&kCpuOps, &kRefOps}) {
      for (int threads : {1, 2, 3}) {
        TableScope scope(*table, threads);
        std::deque<AdamWState> alone, together;
        std::vector<AdamWSlice> slices;
        for (size_t i = 0; i < std::size(sizes); ++i) {
          for (auto* states : {&alone, &together}) states->emplace_back(moments, sizes[i]).grad.Fill(i, 0.3f);
          const AdamWSlice one = alone.back().Slice(i % 2 == 0 ? 0.1f : 0.0f);
          AdamW(TestContext(), AdamWState::DescOf(3), {&one, 1});
          slices.push_back(together.back().Slice(one.decay));
        }
        AdamW(TestContext(), AdamWState::DescOf(3), slices);
        for (size_t i = 0; i < slices.size(); ++i)
          for (size_t k = 0; k < 4; ++k)
            EXPECT_TRUE(SameBits(together[i].Values()[k].values, alone[i].Values()[k].values)) << sizes[i] << " " << k;
      }
    }
  }
  AdamW(TestContext(), AdamWState::DescOf(1), {});
}

// The textbook recurrence in FP64, moments rounded where BF16 stores them.
TEST(AdamW, FollowsTwentyStepsOfTheFormula) {
  constexpr int64_t kSize = 100;
  for (DType moments : kTypes) {
    AdamWState state(moments, kSize);
    std::vector<double> w, m(kSize), v(kSize);
    for (float value : state.master.Values()) w.push_back(double{value});
    const auto stored = [&](double x) { return moments == DType::kBF16 ? double{bf16(static_cast<float>(x))} : x; };
    for (int64_t step = 1; step <= 20; ++step) {
      state.Step(step);
      for (size_t i = 0; i < kSize; ++i) {
        const double g = 0.5 * double{state.grad.Get(0, static_cast<int64_t>(i))};
        const double m1 = 0.9 * m[i] + 0.1 * g, v1 = 0.95 * v[i] + 0.05 * g * g;
        const double m_hat = m1 / (1 - std::pow(0.9, step)), v_hat = v1 / (1 - std::pow(0.95, step));
        w[i] = w[i] * (1 - 0.01 * 0.1) - 0.01 * m_hat / (std::sqrt(v_hat) + 1e-8);
        m[i] = stored(m1);
        v[i] = stored(v1);
      }
    }
    // A moment within a hair of the middle between two BF16 values may round the other way: 2^-8 of a step
    // each time.
    const double tolerance = moments == DType::kBF16 ? 1e-3 : 2e-6;
    for (size_t i = 0; i < kSize; ++i) {
      EXPECT_NEAR(state.master.Get(0, static_cast<int64_t>(i)), w[i], tolerance);
      EXPECT_EQ(state.compute.Get(0, static_cast<int64_t>(i)), float{bf16(state.master.Get(0, static_cast<int64_t>(i)))});
    }
  }
}

TEST(AdamW, MinusZeroCountsAsZero) {
  std::vector<float> minus(1, -0.0f), plus(1, 0.0f), w1(1, 1), w2(1, 1), m1(1, -0.0f), m2(1, -0.0f), v1(1), v2(1);
  const auto step = [&](auto& w, auto& g, auto& m, auto& v) {
    const AdamWSlice slice = {.master = VectorOf(w), .grad = VectorOf(g), .m = VectorOf(m), .v = VectorOf(v), .compute = {}};
    AdamW(TestContext(), {.learning_rate = 0.1f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f}, {&slice, 1});
  };
  step(w1, minus, m1, v1);
  step(w2, plus, m2, v2);
  EXPECT_TRUE(SameBits(m1, m2));
  EXPECT_TRUE(SameBits(w1, w2));
}

// A tree over four values, of which every fifth element is -0 everywhere; sum is apart, or where a value is.
TEST(JoinSums, AddsInTheOrderGiven) {
  const std::vector<std::pair<int, int>> order = {{0, 1}, {2, 3}, {0, 2}};
  const auto at = [](uint64_t value, int64_t i) {
    return i % 5 == 4
               ? -0.0f
               : std::ldexp(static_cast<float>(RandomNormal(value, 1, static_cast<uint64_t>(i))), static_cast<int>(i % 37) - 18);
  };
  for (const OpTable* table : {&kCpuOps, &kRefOps}) {
    for (int threads : {1, 2, 3}) {
      TableScope scope(*table, threads);
      std::deque<GuardedVector> memory;
      std::vector<PartialSums> vectors;
      for (int64_t n : {0, 1, 5, 0, 4097, 50000}) {
        PartialSums& v = vectors.emplace_back();
        for (uint64_t value = 0; value < 4; ++value) {
          GuardedVector& x = memory.emplace_back(DType::kF32, n);
          for (int64_t i = 0; i < n; ++i) x.Set(0, i, at(value, i));
          v.values.push_back(x.tensor.as<float>());
        }
        v.sum = vectors.size() % 2 == 0 ? v.values[3] : memory.emplace_back(DType::kF32, n).tensor.as<float>();
        v.size = n;
      }
      JoinSums(TestContext(), vectors, order);
      for (const PartialSums& v : vectors)
        for (int64_t i = 0; i < v.size; ++i)
          ASSERT_EQ(std::bit_cast<uint32_t>(v.sum[i]),
                    std::bit_cast<uint32_t>(((at(0, i) + at(1, i)) + (at(2, i) + at(3, i))) + 0.0f))
              << table->name << ": " << i << " of " << v.size;
    }
  }
}

TEST(JoinSums, OneValueLosesItsMinusZeros) {
  std::vector<float> x = {1, -0.0f, 3};
  for (const OpTable* table : {&kCpuOps, &kRefOps}) {
    TableScope scope(*table, 1);
    std::vector<float> sum(3, 7);
    const PartialSums vector = {.values = {x.data()}, .sum = sum.data(), .size = 3};
    JoinSums(TestContext(), {&vector, 1}, {});
    EXPECT_TRUE(SameBits(sum, {1, 0, 3}));
  }
}

TEST(CopyParts, MovesThePartsAndNothingElse) {
  std::vector<uint8_t> from(300000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint8_t>(RandomBits(1, 2, i));
  for (const OpTable* table : {&kCpuOps, &kRefOps}) {
    for (int threads : {1, 3}) {
      TableScope scope(*table, threads);
      std::vector<uint8_t> to(from.size(), 0xFF), expected = to;
      std::vector<CopiedPart> parts;
      size_t source = 3, target = 0;
      for (size_t n : {0, 1, 15, 100000, 0, 16, 70001}) {
        parts.push_back({from.data() + source, to.data() + target, static_cast<int64_t>(n)});
        std::copy_n(from.begin() + static_cast<ptrdiff_t>(source), n, expected.begin() + static_cast<ptrdiff_t>(target));
        source += n + 1, target += n + 2;
      }
      CopyParts(TestContext(), parts);
      EXPECT_TRUE(to == expected) << table->name;
    }
  }
}

}  // namespace
}  // namespace jevons
