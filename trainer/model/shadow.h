// Shadow mode: the FP8 products of chosen steps beside the same products of the operands before they were rounded. It watches and
// changes nothing. Rows that came through an FP8 dispatch are taken as they came: nobody here has them unrounded.
#ifndef JEVONS_TRAINER_MODEL_SHADOW_H_
#define JEVONS_TRAINER_MODEL_SHADOW_H_

#include <array>
#include <cmath>
#include <vector>

#include "kernels/ops/fp8_gemm.h"
#include "kernels/ops/gemm.h"

namespace jevons {

enum class Verb { kForward, kDgrad, kWgrad };
inline constexpr std::array<const char*, 3> kVerbNames = {"forward", "dgrad", "wgrad"};

// Sums of squares over the elements of products.
struct ProductError {
  double difference = 0, reference = 0;
  double relative() const { return reference > 0 ? std::sqrt(difference / reference) : 0; }
};

struct Shadow {
  using Layer = std::array<ProductError, kVerbNames.size()>;
  std::vector<Layer> layers;  // the model's, then the MTP modules'
};

// Adds the errors of the product `fp8` against op(a) op(b). Its c is not written. The host waits.
void CompareProducts(const OpContext& ops, const Fp8GemmDesc& fp8, const Tensor& a, Form a_form, const Tensor& b, Form b_form,
                     ProductError& error);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_SHADOW_H_
