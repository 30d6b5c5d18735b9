// Defines kernels/ops/adamw.h.
#ifndef JEVONS_KERNELS_REF_ADAMW_H_
#define JEVONS_KERNELS_REF_ADAMW_H_

#include "kernels/ref/scalar.h"

namespace jevons::ref {

// What one step uses for every element, computed once in FP64.
struct AdamWFactors {
  float beta1 = 0, beta2 = 0, one_minus_beta1 = 0, one_minus_beta2 = 0;
  float inverse_c1 = 0, inverse_c2 = 0;  // 1 / (1 - beta^t)
  float learning_rate = 0, eps = 0, grad_scale = 1;
};

inline AdamWFactors MakeAdamWFactors(float learning_rate, float beta1, float beta2, float eps, float grad_scale, int64_t step) {
  const double t = static_cast<double>(step);
  return {.beta1 = beta1,
          .beta2 = beta2,
          .one_minus_beta1 = static_cast<float>(1.0 - double{beta1}),
          .one_minus_beta2 = static_cast<float>(1.0 - double{beta2}),
          .inverse_c1 = static_cast<float>(1.0 / (1.0 - std::pow(double{beta1}, t))),
          .inverse_c2 = static_cast<float>(1.0 / (1.0 - std::pow(double{beta2}, t))),
          .learning_rate = learning_rate,
          .eps = eps,
          .grad_scale = grad_scale};
}

// What a slice's weights are multiplied by before the step.
inline float AdamWKeep(float learning_rate, float decay) {
  return static_cast<float>(1.0 - double{learning_rate} * double{decay});
}

// One element. The update uses m and v as they are before they are rounded for storage.
template <typename T>
JEVONS_HOST_DEVICE void AdamW(const AdamWFactors& f, float keep, T grad, T& master, T& m, T& v) {
  using std::sqrt;
  const T g = (grad + T(0)) * T(f.grad_scale);  // + 0 makes -0 a +0
  m = T(f.beta1) * m + T(f.one_minus_beta1) * g;
  v = T(f.beta2) * v + T(f.one_minus_beta2) * (g * g);
  const T step = m * T(f.inverse_c1) / (sqrt(v * T(f.inverse_c2)) + T(f.eps));
  master = master * T(keep) - T(f.learning_rate) * step;
}

}  // namespace jevons::ref

#endif  // JEVONS_KERNELS_REF_ADAMW_H_
