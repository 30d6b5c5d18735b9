// Defines kernels/ops/router.h.
#ifndef JEVONS_KERNELS_REF_ROUTER_H_
#define JEVONS_KERNELS_REF_ROUTER_H_

#include <algorithm>
#include <limits>

#include "kernels/ref/scalar.h"

namespace jevons::ref {

struct RouterShape {
  int64_t experts = 0, top_k = 0, groups = 1, kept_groups = 1;
  float route_scale = 1;
  bool normalize = true;
};
inline constexpr double kRouterEpsilon = 1e-20;

// The formulas of one element. sum: of the chosen scores plus kRouterEpsilon, or 1 without normalisation.
template <typename T>
JEVONS_HOST_DEVICE T RouteWeight(float route_scale, T score, T sum) {
  return T(route_scale) * score / sum;
}
// d(total) / d(a chosen score) through the weights; dot: of dweights and chosen scores, or 0 without normalisation.
template <typename T>
JEVONS_HOST_DEVICE T RouteWeightGrad(float route_scale, T dweight, T dot, T sum) {
  return T(route_scale) * (dweight - dot / sum) / sum;
}
// f_i from the number of rows that have expert i among their best.
template <typename T>
JEVONS_HOST_DEVICE T BalanceFraction(T hits, int64_t experts, int64_t top_k, int64_t length) {
  return hits * (T(experts) / (T(top_k) * T(length)));
}
// d(total) / d(score) through the balance loss; all: sum of the row's scores, weighted: of fraction * score.
template <typename T>
JEVONS_HOST_DEVICE T BalanceGrad(float balance_scale, T fraction, T weighted, T all) {
  return T(balance_scale) * (fraction - weighted / all) / all;
}
// Of the sigmoid, from its value.
template <typename T>
JEVONS_HOST_DEVICE T SigmoidSlope(T score) {
  return score * (T(1) - score);
}

// The best `count` of values[0..n), best first, ties to the lower index. taken: [n], a buffer.
template <typename T>
void TopK(const T* values, int64_t n, int64_t count, int32_t* best, uint8_t* taken) {
  std::fill(taken, taken + n, uint8_t{0});
  for (int64_t k = 0; k < count; ++k) {
    int64_t winner = -1;
    for (int64_t i = 0; i < n; ++i)
      if (!taken[i] && (winner < 0 || Real(values[i]) > Real(values[winner]))) winner = i;
    taken[winner] = 1;
    best[k] = static_cast<int32_t>(winner);
  }
}

// The sum of the best `count` of values[0..n).
template <typename T>
T TopSum(const T* values, int64_t n, int64_t count, int32_t* best, uint8_t* taken) {
  TopK(values, n, count, best, taken);
  T sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += values[best[k]];
  return sum;
}

// Buffers of one row, `experts` long each.
template <typename T>
struct RouterBuffers {
  T *biased, *group_score;
  int32_t* best;
  uint8_t* taken;
};

inline constexpr int64_t kGroupTop = 2;  // experts whose scores make a group's

// biased = scores + bias, and -inf outside the kept groups.
template <typename T>
void MaskGroups(const RouterShape& s, const T* scores, const T* bias, const RouterBuffers<T>& b) {
  for (int64_t e = 0; e < s.experts; ++e) b.biased[e] = scores[e] + bias[e];
  if (s.kept_groups == s.groups) return;
  const int64_t size = s.experts / s.groups;
  for (int64_t g = 0; g < s.groups; ++g)
    b.group_score[g] = TopSum(b.biased + g * size, size, std::min<int64_t>(kGroupTop, size), b.best, b.taken);
  TopK(b.group_score, s.groups, s.kept_groups, b.best, b.taken);
  for (int64_t g = 0; g < s.groups; ++g)
    if (!b.taken[g]) std::fill_n(b.biased + g * size, size, T(-std::numeric_limits<double>::infinity()));
}

// One row. logits, bias, scores: [experts]; indices, weights: [top_k].
template <typename T>
void RouteRow(const RouterShape& s, const T* logits, const T* bias, T* scores, int32_t* indices, T* weights,
              const RouterBuffers<T>& b) {
  for (int64_t e = 0; e < s.experts; ++e) scores[e] = Sigmoid(logits[e]);
  MaskGroups(s, scores, bias, b);
  TopK(b.biased, s.experts, s.top_k, indices, b.taken);
  T sum = s.normalize ? T(kRouterEpsilon) : T(1);
  for (int64_t k = 0; s.normalize && k < s.top_k; ++k) sum += scores[indices[k]];
  for (int64_t k = 0; k < s.top_k; ++k) weights[k] = RouteWeight(s.route_scale, scores[indices[k]], sum);
}

// The balance loss of one sequence. scores: [length, experts], rows `pitch` apart; fractions: out [experts].
template <typename T>
T SequenceBalanceLoss(const RouterShape& s, int64_t length, const T* scores, int64_t pitch, T* fractions,
                      const RouterBuffers<T>& b) {
  T* share = b.group_score;  // sum over the rows of s / sum(s): [experts]
  std::fill(fractions, fractions + s.experts, T(0));
  std::fill(share, share + s.experts, T(0));
  for (int64_t t = 0; t < length; ++t, scores += pitch) {
    TopK(scores, s.experts, s.top_k, b.best, b.taken);
    T sum = T(kRouterEpsilon);
    for (int64_t e = 0; e < s.experts; ++e) sum += scores[e];
    for (int64_t e = 0; e < s.experts; ++e) {
      share[e] += scores[e] / sum;
      fractions[e] += T(b.taken[e]);
    }
  }
  T loss = 0;
  for (int64_t e = 0; e < s.experts; ++e) {
    fractions[e] = BalanceFraction(fractions[e], s.experts, s.top_k, length);
    loss += fractions[e] * (share[e] / T(length));
  }
  return loss;
}

// One row's d(total) / d(logits). dweights: [top_k]; fractions: [experts], or null for no balance loss;
// balance_scale: d(total) / d(balance loss of the sequence), divided by the sequence's length.
template <typename T>
void RouteRowBackward(const RouterShape& s, const T* scores, const int32_t* indices, const T* dweights, const T* fractions,
                      float balance_scale, T* dlogits) {
  std::fill(dlogits, dlogits + s.experts, T(0));
  T sum = s.normalize ? T(kRouterEpsilon) : T(1), dot = 0;  // weight_k = route_scale * s_k / sum
  for (int64_t k = 0; s.normalize && k < s.top_k; ++k) {
    sum += scores[indices[k]];
    dot += dweights[k] * scores[indices[k]];
  }
  for (int64_t k = 0; k < s.top_k; ++k) dlogits[indices[k]] += RouteWeightGrad(s.route_scale, dweights[k], dot, sum);
  if (fractions) {
    T all = T(kRouterEpsilon), weighted = 0;  // the row's term of the loss is sum f_e s_e / all / length
    for (int64_t e = 0; e < s.experts; ++e) {
      all += scores[e];
      weighted += fractions[e] * scores[e];
    }
    for (int64_t e = 0; e < s.experts; ++e) dlogits[e] += BalanceGrad(balance_scale, fractions[e], weighted, all);
  }
  for (int64_t e = 0; e < s.experts; ++e) dlogits[e] *= SigmoidSlope(scores[e]);
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_ROUTER_H_
