// RMSNorm, RoPE, SwiGLU, cross-entropy, elementwise on CUDA.
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

struct Size {
  int64_t rows, cols;
};
const Size kSizes[] = {{0, 8}, {1, 1}, {3, 33}, {127, 64}, {128, 40}, {129, 130}, {2, 7168}};

TEST_F(CudaTest, RmsNorm) {
  for (DType dtype : kRealTypes) {
    for (auto [rows, cols] : kSizes) {
      CompareWithReference(
          [&, rows = rows, cols = cols](DeviceCase& c) {
            auto &x = c.Make(dtype, rows, cols).Fill(1), &y = c.Make(dtype, rows, cols);
            auto &gamma = c.MakeVector(DType::kF32, cols).Fill(2, 0.1f, 1), &rstd = c.MakeVector(DType::kF32, rows);
            RmsNorm(c.ctx(), x.tensor(), gamma.tensor(), 1e-6f, y.tensor(), rstd.tensor());
            c.Show("y", y);
            c.Show("rstd", rstd);
          },
          BoundOf(dtype));
    }
  }
}

void CompareRmsNormBackward(DType dtype, int64_t rows, int64_t cols, WriteMode mode) {
  CompareWithReference(
      [&](DeviceCase& c) {
        auto &x = c.Make(dtype, rows, cols).Fill(1), &dy = c.Make(dtype, rows, cols).Fill(3), &dx = c.Make(dtype, rows, cols);
        auto &gamma = c.MakeVector(DType::kF32, cols).Fill(2, 0.1f, 1), &rstd = c.MakeVector(DType::kF32, rows).Fill(4, 0.1f, 1);
        auto& dgamma = c.MakeVector(DType::kF32, cols);
        if (mode == WriteMode::kAdd) {
          dx.Fill(5);
          dgamma.Fill(6);
        }
        RmsNormBackward(c.ctx(), {.dy = dy.tensor(),
                                  .x = x.tensor(),
                                  .gamma = gamma.tensor(),
                                  .rstd = rstd.tensor(),
                                  .dx = dx.tensor(),
                                  .dx_mode = mode,
                                  .dgamma = dgamma.tensor(),
                                  .dgamma_mode = mode});
        c.Show("dx", dx);
        c.Show("dgamma", dgamma);
      },
      BoundOf(dtype, dtype == DType::kBF16 ? 1e-3 : 4e-6));
}

TEST_F(CudaTest, RmsNormBackward) {
  for (DType dtype : kRealTypes)
    for (WriteMode mode : kWriteModes)
      for (auto [rows, cols] : kSizes) CompareRmsNormBackward(dtype, rows, cols, mode);
}

// Longer than a block keeps in registers.
TEST_F(CudaTest, RmsNormBackwardOfLongRows) {
  CompareRmsNormBackward(DType::kF32, 6, 8200, WriteMode::kAdd);
  CompareRmsNormBackward(DType::kBF16, 5, 16401, WriteMode::kOverwrite);
}

TEST_F(CudaTest, RopeTurnsAndTurnsBack) {
  struct Shape {
    int64_t rows, heads, dim, offset, after;
  };
  for (DType dtype : kRealTypes) {
    for (const Shape s : {Shape{0, 1, 4, 0, 0}, {1, 1, 2, 0, 1}, {8, 3, 64, 128, 0}, {12, 5, 6, 3, 1}, {4, 1, 64, 0, 0}}) {
      for (bool backward : {false, true}) {
        CompareWithReference(
            [&](DeviceCase& c) {
              constexpr int64_t kLength = 4;
              const int64_t head_dim = s.offset + s.dim + s.after;
              auto &cos = c.Make(DType::kF32, kLength + 1, s.dim / 2).Fill(2),
                   &sin = c.Make(DType::kF32, kLength + 1, s.dim / 2).Fill(3);
              auto& x = c.Make(dtype, s.rows, s.heads * head_dim).Fill(1);
              const RopeDesc desc{.x = x.tensor(),
                                  .heads = s.heads,
                                  .head_dim = head_dim,
                                  .offset = s.offset,
                                  .cos = cos.tensor(),
                                  .sin = sin.tensor(),
                                  .sequence_length = kLength};
              backward ? RopeBackward(c.ctx(), desc) : Rope(c.ctx(), desc);
              c.Show("x", x);
            },
            {});
      }
    }
  }
}

TEST_F(CudaTest, SwiGlu) {
  for (DType dtype : kRealTypes) {
    for (bool weighted : {false, true}) {
      for (auto [rows, cols] : kSizes) {
        CompareWithReference(
            [&, rows = rows, cols = cols](DeviceCase& c) {
              auto &gate_up = c.Make(dtype, rows, 2 * cols).Fill(1, 3), &y = c.Make(dtype, rows, cols);
              auto &dy = c.Make(dtype, rows, cols).Fill(3), &dgate_up = c.Make(dtype, rows, 2 * cols);
              auto &weight = c.MakeVector(DType::kF32, rows).Fill(2), &dweight = c.MakeVector(DType::kF32, rows);
              const Tensor w = weighted ? weight.tensor() : Tensor(), dw = weighted ? dweight.tensor() : Tensor();
              SwiGlu(c.ctx(), gate_up.tensor(), w, y.tensor());
              SwiGluBackward(
                  c.ctx(),
                  {.dy = dy.tensor(), .gate_up = gate_up.tensor(), .weight = w, .dgate_up = dgate_up.tensor(), .dweight = dw});
              c.Show("y", y);
              c.Show("dgate_up", dgate_up);
              if (weighted) c.Show("dweight", dweight);
            },
            BoundOf(dtype, 4e-6));
      }
    }
  }
}

void CompareCrossEntropy(int64_t rows, int64_t vocab, DType dtype) {
  CompareWithReference(
      [&](DeviceCase& c) {
        auto& logits = c.Make(DType::kF32, rows, vocab).Fill(1, 3);
        std::vector<int32_t> ids = RandomIds(rows, vocab + 1, 2);
        for (int32_t& id : ids) --id;  // -1 too
        auto& labels = c.MakeVector(DType::kI32, ids);
        auto &losses = c.MakeVector(DType::kF32, rows), &again = c.MakeVector(DType::kF32, rows);
        auto& dlogits = c.Make(dtype, rows, vocab);
        CrossEntropy(c.ctx(), logits.tensor(), labels.tensor(), losses.tensor());
        CrossEntropyWithGrad(c.ctx(), logits.tensor(), labels.tensor(), 0.5f, again.tensor(), dlogits.tensor());
        c.Show("losses", losses);
        c.Show("losses with gradient", again);
        c.Show("dlogits", dlogits);
        if (dtype == DType::kF32) {
          CrossEntropyWithGrad(c.ctx(), logits.tensor(), labels.tensor(), 0.5f, again.tensor(), logits.tensor());
          c.Show("dlogits in place", logits);
        }
      },
      // The reference adds one exponential after the other: its own error grows with the row.
      {dtype == DType::kBF16 ? 0x1p-7 : 0.0, vocab < 1000 ? 4e-6 : 4e-5, 1e-6});
}

TEST_F(CudaTest, CrossEntropy) {
  for (DType dtype : kRealTypes) {
    CompareCrossEntropy(0, 5, dtype);
    for (int64_t vocab : {1, 31, 300}) CompareCrossEntropy(33, vocab, dtype);
    CompareCrossEntropy(3, 20003, dtype);  // two blocks share a row
  }
}

// Eight blocks share a row; and a row too long to be kept in shared memory.
TEST_F(CudaTest, CrossEntropyOfLargeVocabularies) {
  CompareCrossEntropy(2, 129280, DType::kF32);
  CompareCrossEntropy(1, 460001, DType::kBF16);
}

TEST_F(CudaTest, IgnoredLabelsLeaveNoTrace) {
  CompareWithReference(
      [&](DeviceCase& c) {
        auto& labels = c.MakeVector(DType::kI32, std::vector<int32_t>{-1, -1});
        auto &logits = c.Make(DType::kF32, 2, 20000), &dlogits = c.Make(DType::kF32, 2, 20000);  // logits are NaN
        auto& losses = c.MakeVector(DType::kF32, 2);
        CrossEntropyWithGrad(c.ctx(), logits.tensor(), labels.tensor(), 1.0f, losses.tensor(), dlogits.tensor());
        c.Show("losses", losses);
        c.Show("dlogits", dlogits);
      },
      {});
}

TEST_F(CudaTest, CopyMovesIntegersAsTheyAre) {
  CompareWithReference(
      [](DeviceCase& c) {
        auto &from = c.Make(DType::kI32, 3, 5), &to = c.Make(DType::kI32, 3, 5);
        for (int i = 0; i < 15; ++i) from.Set(i / 5, i % 5, i % 2 == 0 ? -1 - i : 0x7F800001 + i);  // NaN as FP32
        Copy(c.ctx(), from.tensor(), to.tensor());
        c.Show("copy", to);
        EXPECT_EQ(to.Get(0, 0), -1);
        EXPECT_EQ(to.Get(2, 3), 0x7F800001 + 13);
      },
      {});
}

TEST_F(CudaTest, CopyAddFill) {
  for (auto [rows, cols] : kSizes) {
    for (DType from : kRealTypes) {
      for (DType to : kRealTypes) {
        CompareWithReference(
            [&, rows = rows, cols = cols](DeviceCase& c) {
              auto &a = c.Make(from, rows, cols).Fill(1), &b = c.Make(from, rows, cols).Fill(2);
              auto &copy = c.Make(to, rows, cols), &sum = c.Make(from, rows, cols), &filled = c.Make(DType::kF32, rows, cols);
              Copy(c.ctx(), a.tensor(), copy.tensor());
              Add(c.ctx(), a.tensor(), b.tensor(), sum.tensor());
              Add(c.ctx(), a.tensor(), b.tensor(), b.tensor());
              Fill(c.ctx(), 1.5f, filled.tensor());
              c.Show("copy", copy);
              c.Show("sum", sum);
              c.Show("sum in place", b);
              c.Show("filled", filled);
            },
            {});
      }
    }
  }
}

TEST_F(CudaTest, FillNormal) {
  CompareWithReference(
      [&](DeviceCase& c) {
        auto& x = c.MakeVector(DType::kF32, 5003);
        FillNormal(c.ctx(), 7, 3, 11, 0.02f, x.tensor());
        c.Show("x", x);
      },
      {2e-7, 0});
}

}  // namespace
}  // namespace jevons
