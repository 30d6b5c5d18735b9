// The backward of every scalar reference against the exact derivative of its forward.
#include <gtest/gtest.h>

#include "kernels/ref/adamw.h"
#include "kernels/ref/attention.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/permute.h"
#include "kernels/ref/rmsnorm.h"
#include "kernels/ref/rope.h"
#include "kernels/ref/router.h"
#include "kernels/ref/softmax_xent.h"
#include "kernels/ref/swiglu.h"
#include "tests/support/complex_step.h"

namespace jevons {
namespace {

using Real = std::vector<double>;
using Cplx = std::vector<Complex>;

Cplx Widen(const Real& x) { return Cplx(x.begin(), x.end()); }

TEST(Gradients, RmsNorm) {
  constexpr int64_t kRows = 3, kCols = 5;
  const Real x = Normals(kRows * kCols, 1), gamma = Normals(kCols, 2), c = Normals(kRows * kCols, 3);
  const auto loss = [&](const Cplx& x, const Cplx& gamma) {
    Cplx y(c.size()), rstd(kRows);
    ref::RmsNorm(kRows, kCols, x.data(), gamma.data(), 1e-3f, y.data(), rstd.data());
    return Dot(c, y);
  };
  Real y(c.size()), rstd(kRows), dx(x.size()), dgamma(kCols);
  ref::RmsNorm(kRows, kCols, x.data(), gamma.data(), 1e-3f, y.data(), rstd.data());
  ref::RmsNormBackward(kRows, kCols, c.data(), x.data(), gamma.data(), rstd.data(), dx.data(), dgamma.data());
  ExpectGradient("dx", dx, ComplexStepGradient([&](const Cplx& z) { return loss(z, Widen(gamma)); }, x));
  ExpectGradient("dgamma", dgamma, ComplexStepGradient([&](const Cplx& z) { return loss(Widen(x), z); }, gamma));
}

TEST(Gradients, Rope) {
  constexpr int64_t kRows = 4, kHeads = 2, kHeadDim = 7, kOffset = 1, kPairs = 3, kLength = 2;
  const Real x = Normals(kRows * kHeads * kHeadDim, 1), c = Normals(x.size(), 2), angle = Normals(kLength * kPairs, 3);
  Real cos, sin;
  for (double a : angle) {
    cos.push_back(std::cos(a));
    sin.push_back(std::sin(a));
  }
  Real dx = c;
  ref::Rope(kRows, kHeads, kHeadDim, kOffset, kPairs, kLength, cos.data(), sin.data(), -1, dx.data());
  const auto loss = [&](Cplx z) {
    ref::Rope(kRows, kHeads, kHeadDim, kOffset, kPairs, kLength, Widen(cos).data(), Widen(sin).data(), 1, z.data());
    return Dot(c, z);
  };
  ExpectGradient("dx", dx, ComplexStepGradient(loss, x));
}

TEST(Gradients, SwiGlu) {
  constexpr int64_t kRows = 3, kInner = 4;
  const Real gate_up = Normals(kRows * 2 * kInner, 1), weight = Normals(kRows, 2), c = Normals(kRows * kInner, 3);
  const auto loss = [&](const Cplx& gate_up, const Complex* weight) {
    Cplx y(c.size());
    ref::SwiGlu(kRows, kInner, gate_up.data(), weight, y.data());
    return Dot(c, y);
  };
  Real dgate_up(gate_up.size()), dweight(kRows);
  ref::SwiGluBackward(kRows, kInner, c.data(), gate_up.data(), weight.data(), dgate_up.data(), dweight.data());
  const Cplx w = Widen(weight);
  ExpectGradient("dgate_up", dgate_up, ComplexStepGradient([&](const Cplx& z) { return loss(z, w.data()); }, gate_up));
  ExpectGradient("dweight", dweight, ComplexStepGradient([&](const Cplx& z) { return loss(Widen(gate_up), z.data()); }, weight));
  ref::SwiGluBackward<double>(kRows, kInner, c.data(), gate_up.data(), nullptr, dgate_up.data(), nullptr);
  ExpectGradient("dgate_up without weight", dgate_up,
                 ComplexStepGradient([&](const Cplx& z) { return loss(z, nullptr); }, gate_up));
}

struct AttentionCase {
  ref::AttentionShape shape{.rows = 8, .sequence_length = 4, .heads = 2, .nope = 3, .rope = 2, .value = 3, .scale = 0.4f};
  size_t q = 8 * 2 * 5, kv = 8 * 2 * 6, k_rope = 8 * 2, o = 8 * 2 * 3, lse = 8 * 2;
};

void CheckAttention(const AttentionCase& a) {
  const ref::AttentionShape& s = a.shape;
  // One vector of inputs: q, kv, k_rope.
  const Real x = Normals(a.q + a.kv + a.k_rope, 1), c = Normals(a.o, 2);
  const auto loss = [&](const Cplx& z) {
    Cplx o(a.o), lse(a.lse), scores(static_cast<size_t>(s.sequence_length));
    ref::Attention(s, z.data(), z.data() + a.q, z.data() + a.q + a.kv, o.data(), lse.data(), scores.data());
    return Dot(c, o);
  };
  Real o(a.o), lse(a.lse), scores(static_cast<size_t>(s.sequence_length)), dx(x.size());
  const double *kv = x.data() + a.q, *k_rope = kv + a.kv;
  ref::Attention(s, x.data(), kv, k_rope, o.data(), lse.data(), scores.data());
  ref::AttentionBackward(s, x.data(), kv, k_rope, o.data(), lse.data(), c.data(), dx.data(), dx.data() + a.q,
                         dx.data() + a.q + a.kv);
  ExpectGradient("dq, dkv, dk_rope", dx, ComplexStepGradient(loss, x));
}

TEST(Gradients, Attention) { CheckAttention(AttentionCase()); }

TEST(Gradients, AttentionWithDocuments) {
  const int32_t start[] = {0, 0, 2, 2, 0, 1, 1, 3};
  AttentionCase documents;
  documents.shape.document_start = start;
  CheckAttention(documents);
}

TEST(Gradients, CrossEntropy) {
  constexpr int64_t kRows = 4, kVocab = 6;
  const Real logits = Normals(kRows * kVocab, 1);
  const int32_t labels[] = {0, 5, -1, 3};
  Real dlogits(logits.size());
  ref::CrossEntropyBackward(kRows, kVocab, logits.data(), labels, 0.25f, dlogits.data());
  const auto loss = [&](const Cplx& z) {
    Cplx losses(kRows);
    ref::CrossEntropy(kRows, kVocab, z.data(), labels, losses.data());
    return Dot(Real(kRows, 0.25), losses);
  };
  ExpectGradient("dlogits", dlogits, ComplexStepGradient(loss, logits));
}

TEST(Gradients, Embedding) {
  constexpr int64_t kRows = 5, kVocab = 4, kCols = 3;
  const Real table = Normals(kVocab * kCols, 1), c = Normals(kRows * kCols, 2);
  const int32_t ids[] = {2, 0, 2, 3, 2};
  Real dtable(table.size());
  ref::EmbeddingBackward(kRows, kVocab, kCols, c.data(), ids, dtable.data());
  const auto loss = [&](const Cplx& z) {
    Cplx y(c.size());
    ref::Embedding(kRows, kCols, z.data(), ids, y.data());
    return Dot(c, y);
  };
  ExpectGradient("dtable", dtable, ComplexStepGradient(loss, table));
}

// Gather and sum are each other's backward.
TEST(Gradients, Permute) {
  constexpr int64_t kTokens = 3, kSlots = 2, kCols = 2, kPairs = kTokens * kSlots, kExperts = 4;
  const int32_t indices[kPairs] = {3, 0, 0, 1, 3, 1};
  int32_t row_of[kPairs], pair_of[kPairs];
  ref::SortByExpert(kPairs, kExperts, indices, row_of, pair_of);
  const Real x = Normals(kTokens * kCols, 1), y = Normals(kPairs * kCols, 2);
  Real dx(x.size()), dy(y.size());
  ref::SumRows(kTokens, kCols, y.data(), row_of, kSlots, dx.data());
  ExpectGradient("gather", dx,
                 ComplexStepGradient(
                     [&](const Cplx& z) {
                       Cplx out(y.size());
                       ref::GatherRows(kPairs, kCols, z.data(), pair_of, kSlots, out.data());
                       return Dot(y, out);
                     },
                     x));
  ref::GatherRows(kPairs, kCols, x.data(), pair_of, kSlots, dy.data());
  ExpectGradient("sum", dy,
                 ComplexStepGradient(
                     [&](const Cplx& z) {
                       Cplx out(x.size());
                       ref::SumRows(kTokens, kCols, z.data(), row_of, kSlots, out.data());
                       return Dot(x, out);
                     },
                     y));
}

template <typename T>
struct RouterWork {
  explicit RouterWork(size_t n) : biased(n), group_score(n), best(n), taken(n) {}
  ref::RouterBuffers<T> buffers() { return {biased.data(), group_score.data(), best.data(), taken.data()}; }
  std::vector<T> biased, group_score;
  std::vector<int32_t> best;
  std::vector<uint8_t> taken;
};

// The loss: c . weights + 0.25 * (balance loss of one sequence of all rows).
void CheckRouter(const ref::RouterShape& s, bool balance) {
  constexpr int64_t kRows = 4;
  const size_t e = static_cast<size_t>(s.experts), k = static_cast<size_t>(s.top_k);
  const Real logits = Normals(kRows * e, 1), c = Normals(kRows * k, 2), bias(e, 0.0);
  const auto run = [&]<typename T>(const std::vector<T>& logits, std::vector<T>& scores, std::vector<int32_t>& indices,
                                   std::vector<T>& weights, std::vector<T>& fractions) {
    RouterWork<T> work(e);
    const std::vector<T> no_bias(e);
    for (size_t t = 0; t < kRows; ++t)
      ref::RouteRow(s, &logits[t * e], no_bias.data(), &scores[t * e], &indices[t * k], &weights[t * k], work.buffers());
    return ref::SequenceBalanceLoss(s, kRows, scores.data(), s.experts, fractions.data(), work.buffers());
  };
  std::vector<int32_t> indices(kRows * k);
  Real scores(logits.size()), weights(c.size()), fractions(e), dlogits(logits.size());
  run(logits, scores, indices, weights, fractions);
  for (size_t t = 0; t < kRows; ++t)
    ref::RouteRowBackward(s, &scores[t * e], &indices[t * k], &c[t * k], balance ? fractions.data() : nullptr, 0.25f / kRows,
                          &dlogits[t * e]);
  const auto loss = [&](const Cplx& z) {
    Cplx scores(z.size()), weights(c.size()), fractions(e);
    const Complex balance_loss = run(z, scores, indices, weights, fractions);
    return Dot(c, weights) + (balance ? 0.25 * balance_loss : 0.0);
  };
  ExpectGradient("dlogits", dlogits, ComplexStepGradient(loss, logits));
}

TEST(Gradients, Router) {
  CheckRouter({.experts = 8, .top_k = 3, .groups = 4, .kept_groups = 2, .route_scale = 2.5f, .normalize = true}, false);
  CheckRouter({.experts = 8, .top_k = 3, .groups = 4, .kept_groups = 2, .route_scale = 2.5f, .normalize = true}, true);
  CheckRouter({.experts = 6, .top_k = 6, .route_scale = 1.5f, .normalize = false}, true);
  CheckRouter({.experts = 1, .top_k = 1, .normalize = false}, true);
}

}  // namespace
}  // namespace jevons
