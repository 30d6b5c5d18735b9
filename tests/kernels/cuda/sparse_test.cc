// Router, permutation and embedding on CUDA.
#include <numeric>

#include "kernels/cuda/sort.h"
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

struct Gate {
  RouterDesc desc;
  int64_t rows;
};
const Gate kGates[] = {
    {{.experts = 32, .top_k = 4, .groups = 4, .kept_groups = 2, .route_scale = 2.5f}, 0},
    {{.experts = 32, .top_k = 4, .groups = 4, .kept_groups = 2, .route_scale = 2.5f}, 129},
    {{.experts = 256, .top_k = 8, .groups = 8, .kept_groups = 4, .route_scale = 2.5f}, 127},
    {{.experts = 7, .top_k = 7}, 30},
    {{.experts = 9, .top_k = 2, .groups = 3, .kept_groups = 3, .normalize = false}, 33},
    {{.experts = 6, .top_k = 1, .groups = 3, .kept_groups = 2}, 33},
    {{.experts = 120, .top_k = 40, .groups = 40, .kept_groups = 35}, 5},
    {{.experts = 1500, .top_k = 6}, 9},
    {{.experts = 1, .top_k = 1}, 3},
};

TEST_F(CudaTest, Router) {
  for (const Gate& gate : kGates) {
    CompareWithReference(
        [&](DeviceCase& c) {
          const RouterDesc& d = gate.desc;
          auto& logits = c.Make(DType::kF32, gate.rows, d.experts).Fill(1);
          auto& bias = c.MakeVector(DType::kF32, d.experts).Fill(2, 0.3f);
          auto& scores = c.Make(DType::kF32, gate.rows, d.experts);
          auto &indices = c.MakeContiguous(DType::kI32, gate.rows, d.top_k),
               &weights = c.MakeContiguous(DType::kF32, gate.rows, d.top_k);
          auto& counts = c.MakeVector(DType::kI64, d.experts);
          Router(c.ctx(), d,
                 {.logits = logits.tensor(),
                  .bias = bias.tensor(),
                  .scores = scores.tensor(),
                  .indices = indices.tensor(),
                  .weights = weights.tensor(),
                  .counts = counts.tensor()});
          c.Show("indices", indices);
          c.Show("counts", counts);
          c.Show("scores", scores);
          c.Show("weights", weights);
        },
        {0, 1e-6});
  }
}

// Equal scores go to the lower index, and NaN makes no index twice or out of range.
TEST_F(CudaTest, RouterBreaksTiesAndSurvivesNan) {
  const RouterDesc d{.experts = 64, .top_k = 6, .groups = 8, .kept_groups = 3};
  for (float fill : {0.0f, NAN}) {
    DeviceCase c(Device::kCuda, Addresses::kOdd);
    auto &logits = c.Make(DType::kF32, 3, 64), &scores = c.Make(DType::kF32, 3, 64);
    for (int64_t i = 0; i < 3 * 64; ++i) logits.Set(i / 64, i % 64, double{fill});
    auto& bias = c.MakeVector(DType::kF32, std::vector<float>(64));
    auto &indices = c.MakeContiguous(DType::kI32, 3, 6), &weights = c.MakeContiguous(DType::kF32, 3, 6);
    auto& counts = c.MakeVector(DType::kI64, 64);
    Router(c.ctx(), d,
           {.logits = logits.tensor(),
            .bias = bias.tensor(),
            .scores = scores.tensor(),
            .indices = indices.tensor(),
            .weights = weights.tensor(),
            .counts = counts.tensor()});
    indices.Fetch();
    for (int64_t r = 0; r < 3; ++r) {
      std::vector<int> times(64);
      for (int64_t k = 0; k < 6; ++k) {
        const double index = indices.Get(r, k);
        EXPECT_TRUE(fill != 0 || index == static_cast<double>(k)) << index;
        ASSERT_TRUE(index >= 0 && index < 64);
        EXPECT_EQ(++times[static_cast<size_t>(index)], 1);
      }
    }
  }
}

TEST_F(CudaTest, BalanceLoss) {
  for (const Gate& gate : kGates) {
    CompareWithReference(
        [&](DeviceCase& c) {
          const int64_t sequences = 3, length = gate.rows + 1;
          auto& scores = c.Make(DType::kF32, sequences * length, gate.desc.experts).Fill(1, 0.1f, 0.5f);
          auto& fractions = c.Make(DType::kF32, sequences, gate.desc.experts);
          auto& losses = c.MakeVector(DType::kF32, sequences);
          BalanceLoss(c.ctx(), gate.desc, scores.tensor(), length, fractions.tensor(), losses.tensor());
          c.Show("fractions", fractions);
          c.Show("losses", losses);
        },
        {0, 4e-6});
  }
}

TEST_F(CudaTest, RouterBackward) {
  for (const Gate& gate : kGates) {
    for (bool balance : {false, true}) {
      CompareWithReference(
          [&](DeviceCase& c) {
            const RouterDesc& d = gate.desc;
            const int64_t length = 3, rows = gate.rows / length * length, sequences = rows / length;
            auto& scores = c.Make(DType::kF32, rows, d.experts).Fill(1, 0.1f, 0.5f);
            std::vector<int32_t> chosen;  // distinct within a row
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t k = 0; k < d.top_k; ++k) chosen.push_back(static_cast<int32_t>((r + k) % d.experts));
            auto& indices = c.MakeVector(DType::kI32, chosen);
            auto &weights = c.MakeVector(DType::kF32, rows * d.top_k).Fill(2),
                 &dweights = c.MakeVector(DType::kF32, rows * d.top_k).Fill(3);
            auto &fractions = c.Make(DType::kF32, sequences, d.experts).Fill(4), &dlogits = c.Make(DType::kF32, rows, d.experts);
            RouterBackward(c.ctx(), d,
                           {.scores = scores.tensor(),
                            .indices = indices.tensor(),
                            .weights = weights.tensor(),
                            .dweights = dweights.tensor(),
                            .fractions = balance ? fractions.tensor() : Tensor(),
                            .balance_scale = 0.3f,
                            .sequence_length = length,
                            .dlogits = dlogits.tensor()});
            c.Show("dlogits", dlogits);
          },
          {0, 4e-6});
    }
  }
}

TEST_F(CudaTest, SortsByExpert) {
  for (int64_t experts : {1, 64, 257}) {
    for (int64_t pairs : {0, 1, 127, 128, 129, 512, 3000}) {
      CompareWithReference(
          [&](DeviceCase& c) {
            const std::vector<int32_t> chosen = RandomIds(pairs, experts == 64 ? 17 : experts, 3);  // or some stay empty
            std::vector<int64_t> count(static_cast<size_t>(experts));
            for (int32_t e : chosen) ++count[static_cast<size_t>(e)];
            auto &indices = c.MakeVector(DType::kI32, chosen), &counts = c.MakeVector(DType::kI64, count);
            auto &row_of = c.MakeVector(DType::kI32, pairs), &pair_of = c.MakeVector(DType::kI32, pairs);
            SortByExpert(c.ctx(), indices.tensor(), counts.tensor(), row_of.tensor(), pair_of.tensor());
            c.Show("row_of", row_of);
            c.Show("pair_of", pair_of);
          },
          {});
    }
  }
}

TEST_F(CudaTest, GatherRows) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kU8, DType::kI64}) {
    for (int64_t rows : {0, 1, 129}) {
      for (int64_t cols : {1, 33, 1100}) {
        CompareWithReference(
            [&](DeviceCase& c) {
              auto &x = c.Make(dtype, 40, cols), &y = c.Make(dtype, rows, cols);
              for (int64_t i = 0; i < 40 * cols; ++i) x.Set(i / cols, i % cols, static_cast<double>(i % 251));
              auto& pair_of = c.MakeVector(DType::kI32, RandomIds(rows, 120, 5));
              GatherRows(c.ctx(), x.tensor(), pair_of.tensor(), 3, y.tensor());
              c.Show("y", y);
            },
            {});
      }
    }
  }
}

TEST_F(CudaTest, SumRowsHasTheBitsOfTheReference) {
  for (DType from : kRealTypes) {
    for (DType to : kRealTypes) {
      for (WriteMode mode : kWriteModes) {
        for (int64_t slots : {1, 3, 8, 11}) {
          CompareWithReference(
              [&](DeviceCase& c) {
                constexpr int64_t kTokens = 43, kCols = 67;
                auto& y = c.Make(from, kTokens * slots, kCols).Fill(1);
                auto& out = c.Make(to, kTokens, kCols);
                if (mode == WriteMode::kAdd) out.Fill(2);
                auto& row_of = c.MakeVector(DType::kI32, RandomIds(kTokens * slots, kTokens * slots, 5));
                SumRows(c.ctx(), y.tensor(), row_of.tensor(), slots, out.tensor(), mode);
                c.Show("out", out);
              },
              {});
        }
      }
    }
  }
}

TEST_F(CudaTest, SumSegmentsHasTheBitsOfTheReference) {
  std::vector<int32_t> offsets = {0};
  for (const int32_t terms : {0, 1, 2, 0, 33, 8, 11, 1, 0}) offsets.push_back(offsets.back() + terms);
  const auto segments = static_cast<int64_t>(offsets.size()) - 1;
  for (DType from : kRealTypes) {
    for (DType to : kRealTypes) {
      for (WriteMode mode : kWriteModes) {
        CompareWithReference(
            [&](DeviceCase& c) {
              constexpr int64_t kCols = 67;
              auto& y = c.Make(from, 50, kCols).Fill(1);
              auto& out = c.Make(to, segments, kCols).Fill(2);
              auto &rows = c.MakeVector(DType::kI32, RandomIds(offsets.back(), 50, 5)), &at = c.MakeVector(DType::kI32, offsets);
              SumSegments(c.ctx(), y.tensor(), rows.tensor(), at.tensor(), out.tensor(), mode);
              c.Show("out", out);
            },
            {});
      }
    }
  }
}

TEST_F(CudaTest, SumRowsByGroupHasTheBitsOfTheReference) {
  for (DType from : kRealTypes) {
    for (DType to : kRealTypes) {
      for (WriteMode mode : kWriteModes) {
        for (int64_t slots : {1, 3, 8, 11, 33}) {
          for (int64_t tokens : {0, 1, 43}) {
            CompareWithReference(
                [&](DeviceCase& c) {
                  constexpr int64_t kCols = 67;
                  auto& y = c.Make(from, tokens * slots + 5, kCols).Fill(1);
                  auto& out = c.Make(to, tokens, kCols);
                  if (mode == WriteMode::kAdd) out.Fill(2);
                  auto& row_of = c.MakeVector(DType::kI32, RandomIds(tokens * slots, tokens * slots + 5, 5));
                  auto& experts = c.MakeVector(DType::kI32, RandomIds(tokens * slots, 64, 7));
                  SumRowsByGroup(c.ctx(), y.tensor(), row_of.tensor(), experts.tensor().Reshape({tokens, slots}), 8, out.tensor(),
                                 mode);
                  c.Show("out", out);
                },
                {});
          }
        }
      }
    }
  }
}

TEST_F(CudaTest, EmbeddingInFixedPoint) {
  const FixedPoint format = {.shift = 30, .limit = 0x1p32};
  for (DType dtype : kRealTypes) {
    for (int64_t rows : {0, 1, 37, 300}) {
      for (WriteMode mode : kWriteModes) {
        CompareWithReference(
            [&](DeviceCase& c) {
              constexpr int64_t kVocab = 700, kCols = 67;
              auto &dy = c.Make(dtype, rows, kCols).Fill(2), &dtable = c.Make(DType::kI64, kVocab, kCols);
              if (mode == WriteMode::kAdd) dtable.Fill(3, 1e6f);
              if (rows > 30) dy.Set(30, 66, 5);  // beyond the limit, unless the other rows of its id bring it back
              std::vector<int32_t> some = RandomIds(rows, kVocab, 1);
              for (size_t i = 0; i < some.size(); i += 3) some[i] = 699;
              auto &ids = c.MakeVector(DType::kI32, some), &flag = c.MakeVector(DType::kI64, std::vector<int64_t>{0});
              EmbeddingBackward(c.ctx(), dy.tensor(), ids.tensor(), format, dtable.tensor(), mode, flag.tensor().as<int64_t>());
              c.Show("dtable", dtable);
              c.Show("flag", flag);
            },
            {});
      }
    }
  }
}

TEST_F(CudaTest, Embedding) {
  for (DType dtype : kRealTypes) {
    for (int64_t rows : {0, 1, 37, 300}) {
      for (WriteMode mode : kWriteModes) {
        CompareWithReference(
            [&](DeviceCase& c) {
              constexpr int64_t kVocab = 700, kCols = 67;  // two passes of the sort
              auto &table = c.Make(dtype, kVocab, kCols).Fill(1), &y = c.Make(dtype, rows, kCols);
              auto &dy = c.Make(dtype, rows, kCols).Fill(2), &dtable = c.Make(DType::kF32, kVocab, kCols);
              if (mode == WriteMode::kAdd) dtable.Fill(3);
              std::vector<int32_t> some = RandomIds(rows, kVocab, 1);
              for (size_t i = 0; i < some.size(); i += 3) some[i] = 699;  // one that is frequent
              auto& ids = c.MakeVector(DType::kI32, some);
              Embedding(c.ctx(), table.tensor(), ids.tensor(), y.tensor());
              EmbeddingBackward(c.ctx(), dy.tensor(), ids.tensor(), dtable.tensor(), mode);
              c.Show("y", y);
              c.Show("dtable", dtable);
            },
            {});
      }
    }
  }
}

}  // namespace
}  // namespace jevons
