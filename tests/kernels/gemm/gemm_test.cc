// Every implementation of Gemm and GroupedGemm against the scalar definition.
#include "kernels/ops/gemm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "hwy/targets.h"
#include "kernels/base/philox.h"
#include "kernels/cpu/gemm_impl.h"

namespace jevons {
namespace {

// A matrix in memory with `pad` guard columns on each side and a guard row above and below; guards are NaN.
class Matrix {
 public:
  Matrix(DType dtype, int64_t rows, int64_t cols, int64_t pad, uint64_t seed)
      : dtype_(dtype), rows_(rows), cols_(cols), pad_(pad), pitch_(cols + 2 * pad) {
    bytes_.resize((rows + 2) * pitch_ * SizeOf(dtype), 0xFF);
    for (int64_t i = 0; i < rows * cols; ++i) {
      Set(i / cols, i % cols, static_cast<float>(RandomNormal(seed, 1, i)));
    }
  }
  Tensor view() {
    Tensor t(bytes_.data() + At(0, 0), dtype_, {rows_, cols_});
    t.pitch = pitch_;
    return t;
  }
  void Set(int64_t i, int64_t j, float value) {
    if (dtype_ == DType::kF32) {
      std::memcpy(bytes_.data() + At(i, j), &value, 4);
    } else {
      const bf16 rounded(value);
      std::memcpy(bytes_.data() + At(i, j), &rounded, 2);
    }
  }
  float Get(int64_t i, int64_t j) const {
    float value;
    bf16 half;
    std::memcpy(&value, bytes_.data() + At(i, j), dtype_ == DType::kF32 ? 4 : 0);
    std::memcpy(&half, bytes_.data() + At(i, j), dtype_ == DType::kF32 ? 0 : 2);
    return dtype_ == DType::kF32 ? value : float(half);
  }
  void PoisonInside() {
    for (int64_t i = 0; i < rows_; ++i) {
      std::memset(bytes_.data() + At(i, 0), 0xFF, cols_ * SizeOf(dtype_));
    }
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }  // guards included

 private:
  int64_t At(int64_t i, int64_t j) const { return ((i + 1) * pitch_ + pad_ + j) * SizeOf(dtype_); }
  DType dtype_;
  int64_t rows_, cols_, pad_, pitch_;
  std::vector<uint8_t> bytes_;
};

struct Case {
  int64_t m, n, k;
  Form a_form = Form::kPlain, b_form = Form::kPlain;
  WriteMode mode = WriteMode::kOverwrite;
  DType in = DType::kF32, out = DType::kF32;
  int64_t pad = 3;
};

// Operands of a case; c starts as NaN where it is overwritten, as numbers where it is added to.
struct Product {
  Matrix a, b, c;
  GemmDesc desc;

  explicit Product(const Case& t, uint64_t seed = 1)
      : a(t.in, t.a_form == Form::kPlain ? t.m : t.k, t.a_form == Form::kPlain ? t.k : t.m, t.pad, seed),
        b(t.in, t.b_form == Form::kPlain ? t.k : t.n, t.b_form == Form::kPlain ? t.n : t.k, t.pad, seed + 1),
        c(t.out, t.m, t.n, t.pad, seed + 2) {
    if (t.mode == WriteMode::kOverwrite) c.PoisonInside();
    desc = {a.view(), b.view(), c.view(), t.a_form, t.b_form, t.mode};
  }
};

class GemmTest : public testing::Test {
 protected:
  void TearDown() override {
    cpu::ForceGemmImpl("");
    hwy::SetSupportedTargetsForTest(0);
  }
  static void Run(const GemmDesc& desc) { Gemm(OpContext{}, desc); }
};

std::vector<uint8_t> Expected(const Case& t, uint64_t seed = 1) {
  Product p(t, seed);
  cpu::kGemmRef.run({&p.desc, 1});
  return p.c.bytes();
}

TEST_F(GemmTest, SmokeBits) {
  cpu::ForceGemmImpl("cpu");
  printf("%s\n", GemmImplementation(DType::kF32).c_str());
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    if (!cpu::kGemmFma.refusal(DType::kF32).empty()) continue;
    printf("%s\n", GemmImplementation(DType::kF32).c_str());
    for (Form af : {Form::kPlain, Form::kTransposed})
      for (Form bf : {Form::kPlain, Form::kTransposed})
        for (WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAdd})
          for (DType in : {DType::kF32, DType::kBF16})
            for (DType out : {DType::kF32, DType::kBF16})
              for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {7, 64, 16}, {13, 67, 31}, {50, 300, 33}, {50, 130, 1100},
                                     {0, 5, 5}, {5, 0, 5}, {5, 5, 0}, {128, 96, 64}}) {
                Case t{m, n, k, af, bf, mode, in, out};
                Product p(t);
                Run(p.desc);
                ASSERT_EQ(p.c.bytes(), Expected(t)) << p.desc.ToString();
              }
  }
}

}  // namespace
}  // namespace jevons
