// The attention core: blocks against the row-by-row reference, masks, threads.
#include "tests/kernels/op_test.h"

namespace jevons {
namespace {

struct Sizes {
  int64_t sequences, length, heads, nope, rope, value;
  bool documents = false;
};

// Documents of odd lengths: where position t's document starts.
std::vector<int32_t> DocumentStarts(const Sizes& s) {
  std::vector<int32_t> start;
  for (int64_t n = 0; n < s.sequences; ++n)
    for (int64_t t = 0; t < s.length; ++t) start.push_back(static_cast<int32_t>(t / (37 + 50 * n) * (37 + 50 * n)));
  return start;
}

struct Problem {
  Problem(DType dtype, const Sizes& s)
      : rows(s.sequences * s.length),
        q(dtype, rows, s.heads * (s.nope + s.rope)),
        kv(dtype, rows, s.heads * (s.nope + s.value), 5),
        k_rope(dtype, rows, s.rope),
        o(dtype, rows, s.heads * s.value),
        d_o(dtype, rows, s.heads * s.value),
        dq(dtype, rows, s.heads * (s.nope + s.rope), 1),
        dkv(dtype, rows, s.heads * (s.nope + s.value)),
        dk_rope(dtype, rows, s.rope),
        lse(DType::kF32, rows, s.heads),
        start(DocumentStarts(s)),
        desc{.heads = s.heads,
             .nope_dim = s.nope,
             .rope_dim = s.rope,
             .value_dim = s.value,
             .sequence_length = s.length,
             .scale = 1 / std::sqrt(static_cast<float>(s.nope + s.rope)),
             .q = q.tensor,
             .kv = kv.tensor,
             .k_rope = k_rope.tensor,
             .document_start = s.documents ? Tensor::Of(start.data(), {rows}) : Tensor(),
             .o = o.tensor,
             .lse = lse.tensor} {
    q.Fill(1, 1.5f);
    kv.Fill(2);
    k_rope.Fill(3);
    d_o.Fill(4);
  }
  void Backward() {
    AttentionBackward(TestContext(), desc, {.d_o = d_o.tensor, .dq = dq.tensor, .dkv = dkv.tensor, .dk_rope = dk_rope.tensor});
  }
  int64_t rows;
  Guarded q, kv, k_rope, o, d_o, dq, dkv, dk_rope, lse;
  std::vector<int32_t> start;
  AttentionDesc desc;
};

const Sizes kSizes[] = {
    {0, 4, 2, 16, 8, 16},          // no rows
    {3, 1, 2, 16, 8, 16},          // sequences of one token
    {2, 5, 1, 1, 1, 1},            // tiny
    {1, 131, 3, 17, 6, 33, true},  // nothing is a multiple of anything
    {2, 64, 2, 32, 16, 32},        // one block
    {2, 330, 2, 16, 8, 32, true},  // several key blocks, several documents
    {1, 300, 1, 16, 0, 300},       // no rope part, wide values
    {1, 513, 2, 0, 10, 7},         // no nope part
};

TEST(Attention, AgreesWithTheReference) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Sizes& sizes : kSizes) {
      CompareTables(
          [&]() -> Outputs {
            Problem problem(dtype, sizes);
            Attention(TestContext(), problem.desc);
            return {{"o", problem.o.Values()}, {"lse", problem.lse.Values()}};
          },
          ToleranceOf(dtype,
                      dtype == DType::kBF16 ? 4e-3 : 3e-6));  // BF16 also rounds the probabilities: 2^-9 each
    }
  }
}

// Gradients of both tables at the very same o and lse.
TEST(Attention, BackwardAgreesWithTheReference) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Sizes& sizes : kSizes) {
      CompareTables(
          [&]() -> Outputs {
            Problem problem(dtype, sizes);
            {
              TableScope scope(kRefOps, 1);
              Attention(TestContext(), problem.desc);
            }
            problem.Backward();
            return {{"dq", problem.dq.Values()}, {"dkv", problem.dkv.Values()}, {"dk_rope", problem.dk_rope.Values()}};
          },
          {.relative = ToleranceOf(dtype).relative, .of_largest = dtype == DType::kBF16 ? 8e-3 : 5e-6, .absolute = 1e-6});
    }
  }
}

// Whatever stands in the first document, the second neither sees it nor sends it a gradient.
TEST(Attention, DocumentsDoNotLeak) {
  const Sizes sizes{1, 200, 2, 32, 16, 32, true};  // document 1 is [37, 74), document 2 [74, 111)
  const auto run = [&](float change) {
    auto problem = std::make_unique<Problem>(DType::kF32, sizes);
    for (int64_t t = 37; t < 74; ++t)
      for (Guarded* input : {&problem->q, &problem->kv, &problem->k_rope, &problem->d_o})
        for (int64_t c = 0; c < input->tensor.cols(); ++c) input->Set(t, c, input->Get(t, c) + change);
    Attention(TestContext(), problem->desc);
    problem->Backward();
    return problem;
  };
  const auto before = run(0), after = run(1);
  const auto same = [&](Guarded Problem::*output, int64_t t) {
    const Guarded &a = (*before).*output, &b = (*after).*output;
    bool equal = true;
    for (int64_t c = 0; c < a.tensor.cols(); ++c) equal = equal && a.Get(t, c) == b.Get(t, c);
    return equal;
  };
  for (auto output : {&Problem::o, &Problem::lse, &Problem::dq, &Problem::dkv, &Problem::dk_rope})
    for (int64_t t = 0; t < 200; ++t) EXPECT_EQ(same(output, t), t < 37 || t >= 74) << t;
}

// The future does not reach the past, and a sequence does not reach another.
TEST(Attention, IsCausal) {
  const Sizes sizes{2, 150, 1, 16, 8, 16};
  Problem before(DType::kF32, sizes), after(DType::kF32, sizes);
  for (int64_t c = 0; c < 32; ++c) after.kv.Set(100, c, 9);
  Attention(TestContext(), before.desc);
  Attention(TestContext(), after.desc);
  for (int64_t t = 0; t < 300; ++t) EXPECT_EQ(before.o.Get(t, 3) == after.o.Get(t, 3), t < 100 || t >= 150) << t;
}

TEST(Attention, NanIsSeen) {
  Problem problem(DType::kF32, {1, 90, 1, 16, 8, 16});
  problem.kv.Set(70, 2, std::nanf(""));
  Attention(TestContext(), problem.desc);
  EXPECT_TRUE(std::isnan(problem.o.Get(70, 0)));
  EXPECT_TRUE(std::isnan(problem.o.Get(89, 0)));
  EXPECT_FALSE(std::isnan(problem.o.Get(20, 0)));
}

TEST(AttentionDeathTest, DocumentStartsInTheFutureAreRefused) {
  Problem problem(DType::kF32, {1, 90, 1, 16, 8, 16, true});
  problem.start[20] = 21;
  EXPECT_DEATH(Attention(TestContext(), problem.desc), "document_start.20. = 21 at position 20");
}

}  // namespace
}  // namespace jevons
