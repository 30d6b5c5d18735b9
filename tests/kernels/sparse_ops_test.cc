// Embedding, permutation, elementwise.
#include <limits>

#include "tests/kernels/op_test.h"

namespace jevons {
namespace {

const DType kTypes[] = {DType::kF32, DType::kBF16};
const WriteMode kModes[] = {WriteMode::kOverwrite, WriteMode::kAdd};

std::vector<int32_t> RandomIds(int64_t n, int64_t limit, uint64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(RandomBits(seed, 1, static_cast<uint64_t>(i)) % static_cast<uint64_t>(limit)));
  return ids;
}

Tensor VectorOf(auto& values) { return Tensor::Of(values.data(), {static_cast<int64_t>(values.size())}); }

TEST(Embedding, AgreesWithTheReference) {
  for (DType dtype : kTypes) {
    for (int64_t rows : {0, 1, 37, 300}) {
      CompareTables(
          [&]() -> Outputs {
            Guarded table(dtype, 50, 67), y(dtype, rows, 67, 1);
            std::vector<int32_t> ids = RandomIds(rows, 50, 1);
            Embedding(TestContext(), table.Fill(1).tensor, VectorOf(ids), y.tensor);
            return {{"y", y.Values()}};
          },
          {});
    }
  }
}

TEST(Embedding, BackwardHasTheBitsOfTheReference) {
  for (DType dtype : kTypes) {
    for (WriteMode mode : kModes) {
      for (int64_t rows : {0, 1, 37, 300}) {
        CompareTables(
            [&]() -> Outputs {
              Guarded dy(dtype, rows, 67), dtable(DType::kF32, 50, 67);
              if (mode == WriteMode::kAdd) dtable.Fill(2);
              std::vector<int32_t> ids = RandomIds(rows, 50, 1);
              EmbeddingBackward(TestContext(), dy.Fill(1).tensor, VectorOf(ids), dtable.tensor, mode);
              return {{"dtable", dtable.Values()}};
            },
            {});
      }
    }
  }
}

struct Sorted {
  Sorted(std::vector<int32_t> chosen, int64_t experts)
      : indices(std::move(chosen)), counts(static_cast<size_t>(experts)), row_of(indices.size()), pair_of(indices.size()) {
    for (int32_t e : indices) ++counts[static_cast<size_t>(e)];
    SortByExpert(TestContext(), VectorOf(indices), VectorOf(counts), VectorOf(row_of), VectorOf(pair_of));
  }
  std::vector<int32_t> indices;
  std::vector<int64_t> counts;
  std::vector<int32_t> row_of, pair_of;
};

TEST(Permute, SortsByExpertThenByPair) {
  for (const OpTable* table : OpTables()) {
    TableScope scope(*table, 1);
    const Sorted some({3, 0, 0, 1, 3, 1}, 5);  // experts 2 and 4 are empty
    EXPECT_EQ(some.pair_of, (std::vector<int32_t>{1, 2, 3, 5, 0, 4}));
    EXPECT_EQ(some.row_of, (std::vector<int32_t>{4, 0, 1, 2, 5, 3}));
    const Sorted none({}, 5);
    const Sorted one_expert(std::vector<int32_t>(40, 2), 3);
    for (int32_t i = 0; i < 40; ++i) EXPECT_EQ(one_expert.row_of[static_cast<size_t>(i)], i);
  }
}

TEST(Permute, RoundTripReturnsTheRows) {
  constexpr int64_t kTokens = 90, kSlots = 4, kCols = 131;
  for (DType dtype : kTypes) {
    Sorted sorted(RandomIds(kTokens * kSlots, 17, 3), 64);
    Guarded x(dtype, kTokens, kCols), rows(dtype, kTokens * kSlots, kCols), sum(DType::kF32, kTokens, kCols);
    GatherRows(TestContext(), x.Fill(1).tensor, VectorOf(sorted.pair_of), kSlots, rows.tensor);
    SumRows(TestContext(), rows.tensor, VectorOf(sorted.row_of), kSlots, sum.tensor, WriteMode::kOverwrite);
    for (int64_t t = 0; t < kTokens; ++t)
      for (int64_t c = 0; c < kCols; ++c) EXPECT_EQ(sum.Get(t, c), 4 * x.Get(t, c));  // exact: a power of two
  }
}

TEST(Permute, MovesOneValueAPairAndScattersBack) {
  Sorted sorted(RandomIds(60, 7, 3), 7);
  Guarded weights(DType::kF32, 60, 1, 0), moved(DType::kF32, 60, 1, 0), back(DType::kF32, 60, 1, 0);
  GatherRows(TestContext(), weights.Fill(1).tensor, VectorOf(sorted.pair_of), 1, moved.tensor);
  EXPECT_EQ(moved.Get(5, 0), weights.Get(sorted.pair_of[5], 0));
  SumRows(TestContext(), moved.tensor, VectorOf(sorted.row_of), 1, back.tensor, WriteMode::kOverwrite);
  EXPECT_TRUE(SameBits(back.Values(), weights.Values()));
}

TEST(Permute, SumHasTheBitsOfTheReference) {
  for (DType from : kTypes) {
    for (DType to : kTypes) {
      for (WriteMode mode : kModes) {
        for (int64_t tokens : {0, 1, 120}) {
          CompareTables(
              [&]() -> Outputs {
                Guarded y(from, tokens * 3, 67), out(to, tokens, 67);
                if (mode == WriteMode::kAdd) out.Fill(2);
                Sorted sorted(RandomIds(tokens * 3, 8, 5), 8);
                SumRows(TestContext(), y.Fill(1).tensor, VectorOf(sorted.row_of), 3, out.tensor, mode);
                return {{"out", out.Values()}};
              },
              {});
        }
      }
    }
  }
}

// Segments of none, one and more rows than a token has slots.
TEST(Permute, SumSegmentsHasTheBitsOfTheReference) {
  std::vector<int32_t> offsets = {0};
  for (const int32_t terms : {0, 1, 2, 0, 33, 8, 1, 0}) offsets.push_back(offsets.back() + terms);
  const auto segments = static_cast<int64_t>(offsets.size()) - 1;
  for (DType from : kTypes) {
    for (DType to : kTypes) {
      for (WriteMode mode : kModes) {
        CompareTables(
            [&]() -> Outputs {
              Guarded y(from, 50, 67), out(to, segments, 67);
              out.Fill(2);
              std::vector<int32_t> rows = RandomIds(offsets.back(), 50, 6);
              SumSegments(TestContext(), y.Fill(1).tensor, VectorOf(rows), VectorOf(offsets), out.tensor, mode);
              return {{"out", out.Values()}};
            },
            {});
      }
    }
  }
}

// Slots of a group stand together, apart or alone; the groups come in any order.
TEST(Permute, SumByGroupHasTheBitsOfTheReference) {
  for (DType from : kTypes) {
    for (DType to : kTypes) {
      for (WriteMode mode : kModes) {
        for (int64_t tokens : {0, 1, 40}) {
          for (int64_t slots : {1, 8, 33}) {
            for (int64_t per_group : {8, 64}) {
              CompareTables(
                  [&]() -> Outputs {
                    Guarded y(from, tokens * slots + 5, 67), out(to, tokens, 67);
                    if (mode == WriteMode::kAdd) out.Fill(2);
                    std::vector<int32_t> experts = RandomIds(tokens * slots, 64, 5),
                                         row_of = RandomIds(tokens * slots, tokens * slots + 5, 6);
                    SumRowsByGroup(TestContext(), y.Fill(1).tensor, VectorOf(row_of), VectorOf(experts).Reshape({tokens, slots}),
                                   per_group, out.tensor, mode);
                    return {{"out", out.Values()}};
                  },
                  {});
            }
          }
        }
      }
    }
  }
}

// By hand, in numbers in which every step shows: groups of two experts, slots of experts 5, 0, 4, 1, 2.
TEST(Permute, SumByGroupRoundsEachGroupAndAddsInAscendingOrder) {
  const auto at = [](int k) { return 1 + static_cast<float>(k) * 0.37f; };
  std::vector<int32_t> experts = {5, 0, 4, 1, 2}, row_of = {3, 4, 0, 1, 2};
  for (const OpTable* table : OpTables()) {
    TableScope scope(*table, 1);
    for (DType dtype : kTypes) {
      Guarded y(dtype, 5, 1), out(DType::kF32, 1, 1);
      for (int k = 0; k < 5; ++k) y.Set(row_of[static_cast<size_t>(k)], 0, at(k));
      const auto slot = [&](size_t k) { return y.Get(row_of[k], 0); };
      const auto rounded = [&](float x) { return dtype == DType::kBF16 ? float{bf16(x)} : x; };
      out.Set(0, 0, 100);
      SumRowsByGroup(TestContext(), y.tensor, VectorOf(row_of), VectorOf(experts).Reshape({1, 5}), 2, out.tensor,
                     WriteMode::kAdd);
      const float sum = (rounded(slot(1) + slot(3)) + rounded(slot(4))) + rounded(slot(0) + slot(2));
      EXPECT_EQ(out.Get(0, 0), 100 + sum) << table->name;
    }
  }
}

// What ranks that hold whole groups make of it: each adds and rounds its own, and their sums are added by the same operator.
TEST(Permute, SumByGroupMayBeTakenWhereAGroupIs) {
  constexpr int64_t kTokens = 30, kSlots = 8, kCols = 67, kPerGroup = 16, kGroups = 4;
  Sorted sorted(RandomIds(kTokens * kSlots, 64, 3), 64);
  Guarded y(DType::kBF16, kTokens * kSlots, kCols), whole(DType::kBF16, kTokens, kCols), parts(DType::kBF16, kTokens, kCols);
  y.Fill(1);
  SumRowsByGroup(TestContext(), y.tensor, VectorOf(sorted.row_of), VectorOf(sorted.indices).Reshape({kTokens, kSlots}), kPerGroup,
                 whole.tensor, WriteMode::kOverwrite);
  for (int64_t t = 0; t < kTokens; ++t) {
    Guarded sums(DType::kBF16, kGroups, kCols);
    std::vector<int32_t> group, row;
    for (int32_t g = 0; g < kGroups; ++g) {
      std::vector<int32_t> rows, experts;
      for (int64_t p = t * kSlots; p < (t + 1) * kSlots; ++p) {
        if (sorted.indices[static_cast<size_t>(p)] / kPerGroup != g) continue;
        rows.push_back(sorted.row_of[static_cast<size_t>(p)]);
        experts.push_back(sorted.indices[static_cast<size_t>(p)]);
      }
      if (rows.empty()) continue;
      SumRowsByGroup(TestContext(), y.tensor, VectorOf(rows), VectorOf(experts).Reshape({1, static_cast<int64_t>(rows.size())}),
                     kPerGroup, sums.tensor.Rows(g, 1), WriteMode::kOverwrite);
      group.push_back(g);
      row.push_back(g);
    }
    SumRowsByGroup(TestContext(), sums.tensor, VectorOf(row), VectorOf(group).Reshape({1, static_cast<int64_t>(row.size())}), 1,
                   parts.tensor.Rows(t, 1), WriteMode::kOverwrite);
  }
  EXPECT_TRUE(SameBits(parts.Values(), whole.Values()));
}

TEST(Elementwise, CopyAndAddHaveTheBitsOfTheReference) {
  for (DType a : kTypes) {
    for (DType b : kTypes) {
      for (int64_t gap : {0, 3}) {
        for (int64_t rows : {0, 1, 150}) {
          CompareTables(
              [&]() -> Outputs {
                Guarded src(a, rows, 131, gap), dst(b, rows, 131, gap), x(a, rows, 131, 2), sum(a, rows, 131, gap);
                Copy(TestContext(), src.Fill(1).tensor, dst.tensor);
                Add(TestContext(), src.tensor, x.Fill(2).tensor, sum.tensor);
                Add(TestContext(), src.tensor, x.tensor, x.tensor);  // in place
                EXPECT_TRUE(SameBits(x.Values(), sum.Values()));
                return {{"dst", dst.Values()}, {"sum", sum.Values()}};
              },
              {});
        }
      }
    }
  }
}

TEST(Elementwise, RoundsLikeTheScalarType) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> values = {0.0f, -0.0f, inf, -inf, 1.00390625f, 1.01171875f, 3.4e38f, 1e-45f, -1e-45f, 1.1754944e-38f};
  for (uint64_t i = 0; i < 500; ++i) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(RandomBits(1, 2, i))));
  values.push_back(std::bit_cast<float>(0x7F800001u));  // a NaN whose upper half alone would be infinity
  std::vector<bf16> rounded(values.size());
  Copy(TestContext(), VectorOf(values), VectorOf(rounded));
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(rounded[i].bits, bf16(values[i]).bits) << values[i];
}

TEST(Elementwise, NormalsDependOnTheIndexAlone) {
  GuardedVector whole(DType::kF32, 5000), part(DType::kF32, 100);
  {
    TableScope scope(kCpuOps, 2);
    FillNormal(TestContext(), 7, 3, 0, 0.02f, whole.tensor);
    FillNormal(TestContext(), 7, 3, 4321, 0.02f, part.tensor);
  }
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < 5000; ++i) {
    sum += double{whole.Get(0, i)};
    squares += double{whole.Get(0, i)} * double{whole.Get(0, i)};
  }
  EXPECT_NEAR(sum / 5000, 0, 4 * 0.02 / std::sqrt(5000.0));
  EXPECT_NEAR(squares / 5000, 0.0004, 0.00004);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(part.Get(0, i), whole.Get(0, 4321 + i));
  Fill(TestContext(), 2.5f, part.tensor);
  EXPECT_EQ(part.Values(), std::vector<float>(100, 2.5f));
}

}  // namespace
}  // namespace jevons
