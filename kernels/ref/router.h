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

// biased = scores + bias, and -inf outside the kept groups.
template <typename T>
void MaskGroups(const RouterShape& s, const T* scores, const T* bias, const RouterBuffers<T>& b) {
  for (int64_t e = 0; e < s.experts; ++e) b.biased[e] = scores[e] + bias[e];
  if (s.kept_groups == s.groups) return;
  const int64_t size = s.experts / s.groups, count = std::max<int64_t>(1, s.top_k / s.kept_groups);
  for (int64_t g = 0; g < s.groups; ++g)
    b.group_score[g] = TopSum(b.biased + g * size, size, std::min(count, size), b.best, b.taken);
  TopK(b.group_score, s.groups, s.kept_groups, b.best, b.taken);
  for (int64_t g = 0; g < s.groups; ++g)
    if (!b.taken[g])
      std::fill_n(b.biased + g * size, size, T(-std::numeric_limits<double>::infinity()));
}

// logits, scores: [rows, experts]; bias: [experts]; indices, weights: [rows, top_k]; counts: [experts].
template <typename T>
void Router(const RouterShape& s, int64_t rows, const T* logits, const T* bias, T* scores, int32_t* indices, T* weights,
            int64_t* counts, const RouterBuffers<T>& b) {
  std::fill(counts, counts + s.experts, int64_t{0});
  for (int64_t t = 0; t < rows; ++t, logits += s.experts, scores += s.experts, indices += s.top_k, weights += s.top_k) {
    for (int64_t e = 0; e < s.experts; ++e) scores[e] = Sigmoid(logits[e]);
    MaskGroups(s, scores, bias, b);
    TopK(b.biased, s.experts, s.top_k, indices, b.taken);
    T sum = s.normalize ? T(kRouterEpsilon) : T(1);
    for (int64_t k = 0; k < s.top_k; ++k) {
      if (s.normalize) sum += scores[indices[k]];
      ++counts[indices[k]];
    }
    for (int64_t k = 0; k < s.top_k; ++k) weights[k] = T(s.route_scale) * scores[indices[k]] / sum;
  }
}

// scores: [sequences * length, experts]; fractions: [sequences, experts]; losses: [sequences].
template <typename T>
void BalanceLoss(const RouterShape& s, int64_t sequences, int64_t length, const T* scores, T* fractions, T* losses,
                 const RouterBuffers<T>& b) {
  for (int64_t n = 0; n < sequences; ++n, fractions += s.experts) {
    T* mean = b.group_score;  // P: [experts]
    std::fill(fractions, fractions + s.experts, T(0));
    std::fill(mean, mean + s.experts, T(0));
    for (int64_t t = 0; t < length; ++t, scores += s.experts) {
      TopK(scores, s.experts, s.top_k, b.best, b.taken);
      T sum = T(kRouterEpsilon);
      for (int64_t e = 0; e < s.experts; ++e) sum += scores[e];
      for (int64_t e = 0; e < s.experts; ++e) {
        mean[e] += scores[e] / sum / T(length);
        fractions[e] += T(b.taken[e]);
      }
    }
    losses[n] = 0;
    for (int64_t e = 0; e < s.experts; ++e) {
      fractions[e] *= T(s.experts) / (T(s.top_k) * T(length));
      losses[n] += fractions[e] * mean[e];
    }
  }
}

// d(total) / d(logits) of `rows` rows. dweights: [rows, top_k]; fractions: [rows / length, experts], or null for no balance
// loss; balance_scale: d(total) / d(balance loss of one sequence).
template <typename T>
void RouterBackward(const RouterShape& s, int64_t rows, int64_t length, const T* scores, const int32_t* indices,
                    const T* dweights, const T* fractions, float balance_scale, T* dlogits) {
  for (int64_t t = 0; t < rows; ++t, scores += s.experts, dlogits += s.experts, indices += s.top_k, dweights += s.top_k) {
    std::fill(dlogits, dlogits + s.experts, T(0));
    T sum = s.normalize ? T(kRouterEpsilon) : T(1), dot = 0;  // weight_k = route_scale * s_k / sum
    for (int64_t k = 0; s.normalize && k < s.top_k; ++k) {
      sum += scores[indices[k]];
      dot += dweights[k] * scores[indices[k]];
    }
    for (int64_t k = 0; k < s.top_k; ++k)
      dlogits[indices[k]] += T(s.route_scale) * (dweights[k] - dot / sum) / sum;
    if (fractions) {
      const T* f = fractions + t / length * s.experts;
      T all = T(kRouterEpsilon), weighted = 0;  // the term of row t is sum f_e s_e / (all * length)
      for (int64_t e = 0; e < s.experts; ++e) {
        all += scores[e];
        weighted += f[e] * scores[e];
      }
      for (int64_t e = 0; e < s.experts; ++e)
        dlogits[e] += T(balance_scale) / T(length) * (f[e] - weighted / all) / all;
    }
    for (int64_t e = 0; e < s.experts; ++e) dlogits[e] *= scores[e] * (T(1) - scores[e]);
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_ROUTER_H_
