// Products for the tests of matrix multiplication: operands with guards around them, and what must come out.
#ifndef JEVONS_TESTS_KERNELS_GEMM_GEMM_CASE_H_
#define JEVONS_TESTS_KERNELS_GEMM_GEMM_CASE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "hwy/targets.h"
#include "kernels/base/philox.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/ops/gemm.h"
#include "tests/support/amx_model.h"

namespace jevons {

// A matrix of random numbers with `pad` columns on each side and a row above and below that are NaN.
class Matrix {
 public:
  Matrix(DType dtype, int64_t rows, int64_t cols, int64_t pad, uint64_t seed)
      : dtype_(dtype), rows_(rows), cols_(cols), pad_(pad), pitch_(cols + 2 * pad) {
    bytes_.resize((rows + 2) * pitch_ * SizeOf(dtype), 0xFF);
    for (int64_t i = 0; i < rows * cols; ++i) {
      // Sums of two uniforms: cheaper than normal numbers, and of both signs.
      Set(i / cols, i % cols, static_cast<float>(RandomUniform(seed, 1, i) + RandomUniform(seed, 2, i) - 1));
    }
  }
  Tensor view() {
    Tensor t(bytes_.data() + At(0, 0), dtype_, {rows_, cols_});
    t.pitch = pitch_;
    return t;
  }
  void Set(int64_t i, int64_t j, float value) {
    const bf16 rounded(value);
    if (dtype_ == DType::kF32) {
      std::memcpy(bytes_.data() + At(i, j), &value, sizeof(value));
    } else {
      std::memcpy(bytes_.data() + At(i, j), &rounded, sizeof(rounded));
    }
  }
  float Get(int64_t i, int64_t j) const {
    float value;
    bf16 rounded;
    if (dtype_ == DType::kF32) {
      std::memcpy(&value, bytes_.data() + At(i, j), sizeof(value));
      return value;
    }
    std::memcpy(&rounded, bytes_.data() + At(i, j), sizeof(rounded));
    return rounded;
  }
  void Poison() {
    for (int64_t i = 0; i < rows_; ++i) std::memset(bytes_.data() + At(i, 0), 0xFF, cols_ * SizeOf(dtype_));
  }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  bool operator==(const Matrix& other) const { return bytes_ == other.bytes_; }  // guards included

 private:
  int64_t At(int64_t i, int64_t j) const { return ((i + 1) * pitch_ + pad_ + j) * SizeOf(dtype_); }
  DType dtype_;
  int64_t rows_, cols_, pad_, pitch_;
  std::vector<uint8_t> bytes_;
};

struct GemmCase {
  int64_t m, n, k;
  Form a_form = Form::kPlain, b_form = Form::kPlain;
  WriteMode mode = WriteMode::kOverwrite;
  DType in = DType::kF32, out = DType::kF32;
  int64_t pad = 3;
};

// Operands of a case. Where C is overwritten it starts as NaN. Equal seeds give equal numbers, and a product
// of fewer rows with A plain gets the first rows of the larger one's A.
struct Product {
  Matrix a, b, c;
  GemmCase shape;

  explicit Product(const GemmCase& t, uint64_t seed = 1)
      : a(t.in, t.a_form == Form::kPlain ? t.m : t.k, t.a_form == Form::kPlain ? t.k : t.m, t.pad, seed),
        b(t.in, t.b_form == Form::kPlain ? t.k : t.n, t.b_form == Form::kPlain ? t.n : t.k, t.pad, seed + 1),
        c(t.out, t.m, t.n, t.pad, seed + 2),
        shape(t) {
    if (t.mode == WriteMode::kOverwrite) c.Poison();
  }
  GemmDesc desc() { return {a.view(), b.view(), c.view(), shape.a_form, shape.b_form, shape.mode}; }
  float A(int64_t i, int64_t l) const { return shape.a_form == Form::kPlain ? a.Get(i, l) : a.Get(l, i); }
  float B(int64_t l, int64_t j) const { return shape.b_form == Form::kPlain ? b.Get(l, j) : b.Get(j, l); }
};

enum class Order { kAscending, kPairs, kTiles };  // of the terms of a sum: 0, 1, 2, 3, ...; 1, 0, 3, 2, ...; see SumOnTiles

// What AMX gives for the terms a(l) b(l), l < k, continuing no sum: k in steps of 32, filled up with zeros; in each the even terms and
// the odd ones apart, then both to the sum; every operation rounded, denormals zero.
template <typename A, typename B>
float SumOnTiles(int64_t k, const A& a, const B& b) {
  const auto flushed = [](float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; };
  float sum = 0;
  for (int64_t begin = 0; begin < k; begin += 32) {
    float parts[2] = {0, 0};
    for (int64_t l = begin; l < begin + 32; ++l) {
      float& part = parts[l % 2];
      part = flushed(std::fma(l < k ? flushed(a(l)) : 0, l < k ? flushed(b(l)) : 0, part));
    }
    sum = flushed(sum + flushed(parts[0] + parts[1]));
  }
  return sum;
}

// The order of an implementation of BF16 products.
inline Order OrderOf(const std::string& impl) {
  return impl == "amx" ? Order::kTiles : impl == "dot" ? Order::kPairs : Order::kAscending;
}

// C as the definition has it, computed from the operands element by element.
inline Matrix ExpectedC(const Product& p, Order order) {
  Matrix c = p.c;
  for (int64_t i = 0; i < p.shape.m; ++i) {
    for (int64_t j = 0; j < p.shape.n; ++j) {
      float sum = order == Order::kTiles
                      ? SumOnTiles(
                            p.shape.k, [&](int64_t l) { return p.A(i, l); }, [&](int64_t l) { return p.B(l, j); })
                      : 0;
      for (int64_t l = 0; order != Order::kTiles && l < p.shape.k; ++l) {
        const int64_t t = order == Order::kAscending ? l : l ^ 1;
        if (t < p.shape.k) sum = std::fma(p.A(i, t), p.B(t, j), sum);
        if (t > l && t == p.shape.k) sum = std::fma(p.A(i, l), p.B(l, j), sum);  // an odd last term
      }
      c.Set(i, j, p.shape.mode == WriteMode::kAdd ? p.c.Get(i, j) + sum : sum);
    }
  }
  return c;
}

// An implementation on one instruction set.
struct Variant {
  std::string impl;
  int64_t target;  // of Highway; 0: the best
};

// Everything that can serve operands of type `in` on this CPU, `ref` left out; AMX on a model where there is none.
inline std::vector<Variant> VariantsFor(DType in) {
  UseAmxModelWhereAbsent();
  std::vector<Variant> variants;
  for (const cpu::GemmImpl* impl : cpu::GemmImpls()) {
    if (impl == &cpu::kGemmRef) continue;
    for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      if (impl->refusal(in).empty()) variants.push_back({impl->name, target});
      hwy::SetSupportedTargetsForTest(0);
    }
  }
  return variants;
}

// Makes a variant serve all products while it lives.
class Forced {
 public:
  explicit Forced(const Variant& variant) {
    hwy::SetSupportedTargetsForTest(variant.target);
    cpu::ForceGemmImpl(variant.impl);
  }
  ~Forced() {
    hwy::SetSupportedTargetsForTest(0);
    cpu::ForceGemmImpl("");
  }
};

}  // namespace jevons

#endif  // JEVONS_TESTS_KERNELS_GEMM_GEMM_CASE_H_
