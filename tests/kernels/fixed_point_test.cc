// Exact sums in fixed point: what is rounded and what refused, the same bits for every order, number of threads and instruction
// set; and what reads them: SumsOfSquares, AdamW.
#include "kernels/ref/fixed_point.h"

#include <deque>
#include <limits>

#include "tests/kernels/op_test.h"

namespace jevons {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const WriteMode kModes[] = {WriteMode::kOverwrite, WriteMode::kAdd};

Tensor VectorOf(auto& values) { return Tensor::Of(values.data(), {static_cast<int64_t>(values.size())}); }

// run() in both tables, with one thread and with more, and with every instruction set of the machine.
void ForEachWay(const std::function<void()>& run) {
  for (const OpTable* table : {&kRefOps, &kCpuOps}) {
    for (int threads : {1, 2, 3}) {
      SCOPED_TRACE(testing::Message() << table->name << ", " << threads << " threads");
      TableScope scope(*table, threads);
      run();
    }
  }
  for (int64_t target : {int64_t{HWY_AVX2}, int64_t{HWY_SCALAR}}) {
    if ((hwy::SupportedTargets() & target) == 0) continue;
    SCOPED_TRACE(hwy::TargetName(target));
    InstructionSetScope instructions(target);
    TableScope scope(kCpuOps, 2);
    run();
  }
}

// The integers of a vector, which may have any bits.
std::vector<int64_t> Integers(const Guarded& x) {
  const int64_t* begin = x.tensor.as<int64_t>();
  return {begin, begin + x.tensor.size()};
}

// round(x * 2^shift), half to even, in integers: by the definition of an FP32 number as sign, 24 bits and exponent.
__int128 Rounded(float x, int shift) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const int field = static_cast<int>(bits >> 23 & 0xFF);
  const __int128 digits = field == 0 ? bits & 0x7FFFFF : (bits & 0x7FFFFF) | 0x800000;
  const int exponent = std::max(field, 1) - 150 + shift;  // |x| * 2^shift = digits * 2^exponent
  __int128 q = 0;
  if (digits == 0) return 0;
  if (exponent >= 0) {
    q = digits << exponent;
  } else if (exponent > -26) {
    const __int128 one = __int128{1} << -exponent, rest = digits % one;
    q = digits / one;
    if (2 * rest > one || (2 * rest == one && q % 2 != 0)) ++q;
  }
  return bits >> 31 != 0 ? -q : q;
}

// FP32 numbers of all magnitudes, of both signs, denormals and zeros among them: within 2^49 units of 2^-shift, but for one in a
// hundred of every other seed's, which are between 2^51 and 2^57.
float AnyNumber(uint64_t seed, uint64_t i, int shift) {
  const uint64_t random = RandomBits(seed, 5, i);
  const auto digits = static_cast<float>(static_cast<int64_t>(random >> 32) - (int64_t{1} << 31));
  if (seed % 2 == 1 && random % 100 == 0) return std::ldexp(digits > 0 ? 1 + digits : digits - 1, 26 - shift);
  return random % 11 == 0 ? 0.0f : std::ldexp(digits, 18 - shift - static_cast<int>(random % 200));
}

TEST(FixedPoint, UnitIsThePowerOfTwo) {
  EXPECT_EQ((FixedPoint{.shift = 50, .limit = 0}.unit()), 0x1p-50);
  EXPECT_EQ((FixedPoint{.shift = -3, .limit = 0}.unit()), 8);
}

TEST(FixedPoint, SumsAreExactAtAllSizesAndShifts) {
  for (int shift : {-64, 0, 50, 140, 512}) {
    ForEachWay([&] {
      const FixedPoint format = {.shift = shift, .limit = 0x1p57};
      std::deque<GuardedVector> memory;
      std::vector<FixedPointSum> sums;
      std::vector<std::vector<int64_t>> expected;
      int64_t flag = 7;
      uint64_t seed = 0;
      for (int64_t n : {0, 1, 3, 0, 4, 31, 32, 33, 129, 20011}) {
        for (size_t count : {0, 1, 2, 7}) {
          for (WriteMode mode : kModes) {
            FixedPointSum& s = sums.emplace_back();
            GuardedVector& sum = memory.emplace_back(DType::kI64, n);  // filled with -1
            s = {.values = {}, .sum = sum.tensor, .mode = mode, .flag = &flag};
            std::vector<__int128> exact(static_cast<size_t>(n), mode == WriteMode::kAdd ? -1 : 0);
            for (size_t k = 0; k < count; ++k) {
              const auto apart = static_cast<int64_t>(k % 3);  // from where vectors are aligned
              GuardedVector& value = memory.emplace_back(DType::kF32, n + apart);
              ++seed;
              for (int64_t i = 0; i < n; ++i) {
                const float x = AnyNumber(seed, static_cast<uint64_t>(i), shift);
                value.Set(0, i + apart, x);
                exact[static_cast<size_t>(i)] += Rounded(x, shift);
              }
              s.values.push_back(value.tensor.Columns(apart, n));
            }
            std::vector<int64_t>& want = expected.emplace_back();
            for (__int128 q : exact) want.push_back(static_cast<int64_t>(q));
          }
        }
      }
      AddFixedPoint(TestContext(), format, sums);
      for (size_t i = 0; i < sums.size(); ++i) {
        const int64_t* begin = sums[i].sum.as<int64_t>();
        ASSERT_TRUE(std::equal(expected[i].begin(), expected[i].end(), begin))
            << sums[i].values.size() << " values of " << sums[i].sum.size() << ", shift " << shift;
      }
      EXPECT_EQ(flag, 7) << "nothing was refused";
    });
  }
}

// Contributions in any order, and shared among any number of calls and of partial sums, have one sum.
TEST(FixedPoint, OrderAndGroupingDoNotMatter) {
  constexpr int64_t kSize = 1003;
  constexpr size_t kValues = 9;
  const FixedPoint format = {.shift = 50, .limit = 0x1p57};
  std::deque<GuardedVector> values;
  for (size_t k = 0; k < kValues; ++k) {
    GuardedVector& value = values.emplace_back(DType::kF32, kSize);
    for (int64_t i = 0; i < kSize; ++i)
      value.Set(0, i, AnyNumber(k, static_cast<uint64_t>(i), format.shift) * (i % 3 == 0 ? 1e-9f : 1.0f));
  }
  int64_t flag = 0;
  const auto sum_of = [&](const std::vector<size_t>& which, WriteMode mode, GuardedVector& sum) {
    FixedPointSum s = {.values = {}, .sum = sum.tensor, .mode = mode, .flag = &flag};
    for (size_t k : which) s.values.push_back(values[k].tensor);
    AddFixedPoint(TestContext(), format, {&s, 1});
  };
  std::vector<size_t> order(kValues);
  for (size_t k = 0; k < kValues; ++k) order[k] = k;
  GuardedVector expected(DType::kI64, kSize);
  sum_of(order, WriteMode::kOverwrite, expected);
  ForEachWay([&] {
    std::vector<size_t> shuffled = order;
    for (uint64_t round = 0; round < 10; ++round) {
      for (size_t k = kValues - 1; k > 0; --k) std::swap(shuffled[k], shuffled[RandomBits(round, 6, k) % (k + 1)]);
      GuardedVector sum(DType::kI64, kSize), other(DType::kI64, kSize);
      sum_of({}, WriteMode::kOverwrite, sum);
      sum_of({}, WriteMode::kOverwrite, other);
      for (size_t k = 0; k < kValues;) {  // pieces of random lengths, to one of two sums
        const size_t length = std::min(kValues - k, size_t{1} + RandomBits(round, 7, k) % 4);
        const auto begin = shuffled.begin() + static_cast<ptrdiff_t>(k);
        sum_of({begin, begin + static_cast<ptrdiff_t>(length)}, WriteMode::kAdd, k % 2 == 0 ? sum : other);
        k += length;
      }
      for (int64_t i = 0; i < kSize; ++i) sum.tensor.as<int64_t>()[i] += other.tensor.as<int64_t>()[i];
      EXPECT_EQ(Integers(sum), Integers(expected));
    }
  });
  EXPECT_EQ(flag, 0);
}

TEST(FixedPoint, RoundsHalvesToEvenAndDenormals) {
  const float smallest = std::numeric_limits<float>::denorm_min();
  std::vector<float> x = {0.5f,  1.5f,   2.5f,   -0.5f,    -1.5f,     -2.5f,      0.50000006f, 0.49999997f, -0.0f,
                          3.75f, -3.75f, 1e-20f, smallest, -smallest, 8388607.5f, 8388606.5f,  16777215.0f, -0x1.fffffep61f};
  const std::vector<int64_t> expected = {0, 2,  2, 0, -2, -2,      1,       0,        0,
                                         4, -4, 0, 0, 0,  8388608, 8388606, 16777215, -int64_t{0x1fffffe} * (int64_t{1} << 37)};
  ForEachWay([&] {
    GuardedVector sum(DType::kI64, static_cast<int64_t>(x.size()));
    int64_t flag = 0;
    const FixedPointSum s = {.values = {VectorOf(x)}, .sum = sum.tensor, .mode = WriteMode::kOverwrite, .flag = &flag};
    AddFixedPoint(TestContext(), {.shift = 0, .limit = 0x1p62}, {&s, 1});
    EXPECT_EQ(Integers(sum), expected);
    EXPECT_EQ(flag, 0);
  });
  std::vector<float> tiny = {smallest, -3 * smallest, 0x1p-126f - smallest};
  ForEachWay([&] {
    GuardedVector sum(DType::kI64, 3);
    int64_t flag = 0;
    const FixedPointSum s = {.values = {VectorOf(tiny)}, .sum = sum.tensor, .mode = WriteMode::kOverwrite, .flag = &flag};
    AddFixedPoint(TestContext(), {.shift = 149, .limit = 0x1p62}, {&s, 1});
    EXPECT_EQ(Integers(sum), (std::vector<int64_t>{1, -3, (1 << 23) - 1}));
  });
}

// A refused value adds nothing and raises its sum's own flag, wherever it stands and however small its neighbours are: they are
// added.
TEST(FixedPoint, RefusesWhatIsNotANumberWithinTheLimit) {
  constexpr int64_t kSize = 77;
  const FixedPoint format = {.shift = 4, .limit = 160};
  const float limit = 10, beyond = std::nextafter(limit, kInfinity), huge = std::numeric_limits<float>::max();
  ForEachWay([&] {
    for (float bad : {std::nanf(""), -std::nanf(""), kInfinity, -kInfinity, beyond, -beyond, huge, -huge}) {
      for (int64_t at = 0; at < kSize; ++at) {
        GuardedVector x(DType::kF32, kSize), y(DType::kF32, kSize), sum(DType::kI64, kSize), clean(DType::kI64, kSize);
        for (int64_t i = 0; i < kSize; ++i) {
          x.Set(0, i, i == at ? bad : static_cast<float>(i % 4));
          y.Set(0, i, at % 2 == 0 ? 0 : i % 2 == 0 ? limit : -limit);  // exactly at the limit
        }
        int64_t flags[2] = {0, 0};
        const FixedPointSum s[] = {
            {.values = {y.tensor, x.tensor}, .sum = sum.tensor, .mode = WriteMode::kOverwrite, .flag = &flags[0]},
            {.values = {y.tensor}, .sum = clean.tensor, .mode = WriteMode::kOverwrite, .flag = &flags[1]}};
        AddFixedPoint(TestContext(), format, s);
        EXPECT_EQ(flags[0], 1) << bad << " at " << at;
        EXPECT_EQ(flags[1], 0);
        for (int64_t i = 0; i < kSize; ++i) {
          const int64_t of_y = at % 2 == 0 ? 0 : i % 2 == 0 ? 160 : -160;
          ASSERT_EQ(Integers(sum)[static_cast<size_t>(i)], of_y + (i == at ? 0 : i % 4 * 16)) << bad << ", " << i;
          ASSERT_EQ(Integers(clean)[static_cast<size_t>(i)], of_y);
        }
        AddFixedPoint(TestContext(), format, std::span(s).subspan(1));
        EXPECT_EQ(flags[1], 0);
      }
    }
  });
}

// A spike among gradients of the usual size leaves the range that the step's constants allow; without it, nothing is lost.
TEST(FixedPoint, ASpikeIsCaught) {
  const FixedPoint format = {.shift = 50, .limit = 0x1p62 / 8};
  std::vector<float> x(1000, 1e-6f);
  int64_t flag = 0;
  std::vector<int64_t> sum(x.size());
  const FixedPointSum s = {.values = {VectorOf(x)}, .sum = VectorOf(sum), .mode = WriteMode::kAdd, .flag = &flag};
  ForEachWay([&] {
    flag = 0;
    x[500] = 1e-6f;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] = 0;
    for (int repeat = 0; repeat < 8; ++repeat) AddFixedPoint(TestContext(), format, {&s, 1});
    EXPECT_EQ(flag, 0);
    EXPECT_EQ(static_cast<double>(sum[500]) * format.unit(),
              8 * static_cast<double>(std::llrint(std::ldexp(1e-6f, 50))) * 0x1p-50);
    x[500] = 1e6f;
    const int64_t before = sum[500];
    AddFixedPoint(TestContext(), format, {&s, 1});
    EXPECT_EQ(flag, 1);
    EXPECT_EQ(sum[500], before);
    EXPECT_GT(sum[501], sum[500]);
  });
}

TEST(FixedPointDeathTest, FormatsOutOfBoundsAreRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::vector<float> x(3);
  std::vector<int64_t> sum(3);
  int64_t flag = 0;
  const auto add = [&](int shift, double limit, int64_t* raised) {
    const FixedPointSum s = {.values = {VectorOf(x)}, .sum = VectorOf(sum), .mode = WriteMode::kAdd, .flag = raised};
    AddFixedPoint(TestContext(), {.shift = shift, .limit = limit}, {&s, 1});
  };
  EXPECT_DEATH(add(-65, 1, &flag), "shifted by -65 bits");
  EXPECT_DEATH(add(513, 1, &flag), "shifted by 513 bits");
  EXPECT_DEATH(add(0, 0x1.1p62, &flag), "limited to");
  EXPECT_DEATH(add(0, std::nan(""), &flag), "limited to");
  EXPECT_DEATH(add(0, 1, nullptr), "no flag");
  x.resize(2);
  EXPECT_DEATH(add(0, 1, &flag), "value is");
}

// Integers of all lengths, beyond the 53 bits of FP64 too.
int64_t AnyInteger(uint64_t seed, int64_t i) {
  const auto at = static_cast<uint64_t>(i);
  const int64_t edges[] = {0,
                           1,
                           -1,
                           INT64_MAX,
                           INT64_MIN,
                           (int64_t{1} << 53) + 1,
                           -(int64_t{1} << 53) - 1,
                           (int64_t{3} << 52) + 3,
                           (int64_t{1} << 62) + 256,
                           (int64_t{1} << 62) + 768,
                           (int64_t{1} << 32) - 1,
                           -(int64_t{1} << 32)};
  if (at < std::size(edges)) return edges[at];
  return static_cast<int64_t>(RandomBits(seed, 8, at)) >> RandomBits(seed, 9, at) % 64;
}

// A sum of few elements shows the bits of each: of one element it is its square.
TEST(FixedPoint, SquaresHaveTheBitsOfTheReference) {
  for (double unit : {1.0, 0x1p-50, 0x1p64, 0.3}) {
    ForEachWay([&] {
      for (int64_t n : {0, 1, 2, 15, 16, 17, 100}) {
        GuardedVector q(DType::kI64, n), x(DType::kF32, n);
        for (int64_t begin = 0; begin < 300; begin += std::max<int64_t>(n, 1)) {
          for (int64_t i = 0; i < n; ++i) {
            q.tensor.as<int64_t>()[i] = AnyInteger(1, begin + i);
            x.Set(0, i, static_cast<float>(static_cast<double>(AnyInteger(1, begin + i)) * unit));
          }
          double sums[2] = {-1, -1};
          const SquaresSlice slices[] = {{.x = q.tensor, .sums = &sums[0], .unit = unit}, {.x = x.tensor, .sums = &sums[1]}};
          SumsOfSquares(TestContext(), slices, kSquaresBlock);
          ASSERT_EQ(sums[0], sums[1]) << n << " integers from " << begin;
        }
      }
    });
  }
}

TEST(FixedPoint, AdamWHasTheBitsOfTheReference) {
  for (DType moments : {DType::kF32, DType::kBF16}) {
    for (int64_t n : {0, 1, 77, 20011}) {
      for (double unit : {0x1p-40, 0x1.8p-62}) {
        CompareTables(
            [&]() -> Outputs {
              GuardedVector w(DType::kF32, n), q(DType::kI64, n), x(DType::kF32, n), m(moments, n), v(moments, n);
              GuardedVector w2(DType::kF32, n), m2(moments, n), v2(moments, n);
              for (GuardedVector* weights : {&w, &w2}) weights->Fill(1);
              for (GuardedVector* first : {&m, &m2}) first->Fill(2, 0.1f);
              for (GuardedVector* second : {&v, &v2}) second->Fill(3, 1e-3f, 1e-2f);
              for (int64_t i = 0; i < n; ++i) {
                q.tensor.as<int64_t>()[i] = AnyInteger(2, i);
                x.Set(0, i, static_cast<float>(static_cast<double>(AnyInteger(2, i)) * unit));
              }
              const AdamWDesc desc = {.learning_rate = 1e-2f,
                                      .beta1 = 0.9f,
                                      .beta2 = 0.95f,
                                      .eps = 1e-8f,
                                      .grad_scale = 0.5f,
                                      .grad_unit = unit,
                                      .step = 3};
              const AdamWSlice fixed = {.master = w.tensor, .grad = q.tensor, .m = m.tensor, .v = v.tensor, .compute = {}};
              const AdamWSlice plain = {.master = w2.tensor, .grad = x.tensor, .m = m2.tensor, .v = v2.tensor, .compute = {}};
              AdamW(TestContext(), desc, {&fixed, 1});
              AdamW(TestContext(), desc, {&plain, 1});
              EXPECT_TRUE(SameBits(w.Values(), w2.Values()));
              EXPECT_TRUE(SameBits(m.Values(), m2.Values()));
              EXPECT_TRUE(SameBits(v.Values(), v2.Values()));
              return {{"w", w.Values()}, {"m", m.Values()}, {"v", v.Values()}};
            },
            {});
      }
    }
  }
}

TEST(FixedPoint, EmbeddingAddsTheFinishedSumOfAnId) {
  constexpr int64_t kVocab = 50, kCols = 67;
  const FixedPoint format = {.shift = 30, .limit = 0x1p40};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (WriteMode mode : kModes) {
      for (int64_t rows : {0, 1, 37, 300}) {
        ForEachWay([&] {
          Guarded dy(dtype, rows, kCols), plain(DType::kF32, kVocab, kCols), dtable(DType::kI64, kVocab, kCols);
          std::vector<int32_t> ids;
          for (int64_t r = 0; r < rows; ++r)
            ids.push_back(static_cast<int32_t>(RandomBits(1, 1, static_cast<uint64_t>(r)) % kVocab));
          if (mode == WriteMode::kOverwrite) {
            dtable.tensor.row<int64_t>(3)[5] = 77;
          } else {  // ids that do not occur keep the -1 of untouched memory
            for (int32_t id : ids) std::fill_n(dtable.tensor.row<int64_t>(id), kCols, 1000);
          }
          int64_t flag = 0;
          EmbeddingBackward(TestContext(), dy.Fill(1).tensor, VectorOf(ids), plain.tensor, WriteMode::kOverwrite);
          EmbeddingBackward(TestContext(), dy.tensor, VectorOf(ids), format, dtable.tensor, mode, &flag);
          EXPECT_EQ(flag, 0);
          for (int64_t id = 0; id < kVocab; ++id) {
            const bool occurs = std::find(ids.begin(), ids.end(), id) != ids.end();
            for (int64_t c = 0; c < kCols; ++c)
              ASSERT_EQ(dtable.tensor.row<int64_t>(id)[c], (mode == WriteMode::kOverwrite ? 0
                                                            : occurs                      ? 1000
                                                                                          : -1) +
                                                               static_cast<int64_t>(Rounded(plain.Get(id, c), format.shift)));
          }
          if (rows == 0) return;
          dy.Set(rows - 1, kCols - 1, kInfinity);
          EmbeddingBackward(TestContext(), dy.tensor, VectorOf(ids), format, dtable.tensor, mode, &flag);
          EXPECT_EQ(flag, 1);
        });
      }
    }
  }
}

}  // namespace
}  // namespace jevons
