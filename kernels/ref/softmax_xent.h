// Defines kernels/ops/softmax_xent.h.
#ifndef JEVONS_KERNELS_REF_SOFTMAX_XENT_H_
#define JEVONS_KERNELS_REF_SOFTMAX_XENT_H_

#include <algorithm>

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// d(loss) / d(logit) times scale; p: the logit's probability.
template <typename T>
JEVONS_HOST_DEVICE T LogitGrad(T p, bool is_label, float scale) {
  return T(scale) * (p - T(is_label ? 1 : 0));
}

// The largest real part, and the log of the sum of exponentials.
template <typename T>
T LogSumExp(const T* x, int64_t n) {
  using std::exp, std::log;
  auto largest = Real(x[0]);
  for (int64_t i = 1; i < n; ++i) largest = std::max(largest, Real(x[i]));
  T sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += exp(x[i] - T(largest));
  return T(largest) + log(sum);
}

// logits: [rows, vocab]; labels: [rows], -1 = ignored; losses: [rows].
template <typename T>
void CrossEntropy(int64_t rows, int64_t vocab, const T* logits, const int32_t* labels, T* losses) {
  for (int64_t r = 0; r < rows; ++r, logits += vocab)
    losses[r] = labels[r] < 0 ? T(0) : LogSumExp(logits, vocab) - logits[labels[r]];
}

// dlogits: [rows, vocab], the gradient of scale * sum of the losses; may be logits.
template <typename T>
void CrossEntropyBackward(int64_t rows, int64_t vocab, const T* logits, const int32_t* labels, float scale, T* dlogits) {
  using std::exp;
  for (int64_t r = 0; r < rows; ++r, logits += vocab, dlogits += vocab) {
    if (labels[r] < 0) {
      std::fill(dlogits, dlogits + vocab, T(0));
      continue;
    }
    const T lse = LogSumExp(logits, vocab);
    for (int64_t i = 0; i < vocab; ++i) dlogits[i] = LogitGrad(exp(logits[i] - lse), i == labels[r], scale);
  }
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_SOFTMAX_XENT_H_
