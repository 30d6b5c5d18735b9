#include "kernels/ops/rope.h"

#include <algorithm>
#include <cmath>

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

// The (fractional) pair whose frequency turns `rotations` times within the original length.
double CorrectionDim(double rotations, int64_t dim, double theta, double original_length) {
  return static_cast<double>(dim) * std::log(original_length / (rotations * 2.0 * M_PI)) / (2.0 * std::log(theta));
}

// The angle per position of pair i. YaRN (Peng et al., arXiv 2309.00071, section 3.2) blends theta^(-2i/dim),
// kept where a pair turns often, with the same divided by the factor; the blend is linear in i between the
// two correction dims. Rounded where PyTorch's expressions are: see FillRopeTable.
float Frequency(int64_t i, double theta, int64_t dim, const RopeScaling& scaling) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
  const auto power = static_cast<float>(std::pow(static_cast<double>(static_cast<float>(theta)), static_cast<double>(exponent)));
  const float plain = 1.0f / power;
  if (scaling.factor == 1.0) return plain;
  const double length = static_cast<double>(scaling.original_length);
  const double low = std::max(std::floor(CorrectionDim(scaling.beta_fast, dim, theta, length)), 0.0);
  double high = std::min(std::ceil(CorrectionDim(scaling.beta_slow, dim, theta, length)), static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const float ramp = std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
  const float kept = 1.0f - ramp, interpolated = 1.0f / (static_cast<float>(scaling.factor) * power);
  return interpolated * (1.0f - kept) + plain * kept;
}

void Check(const RopeDesc& d) {
  const int64_t pairs = d.cos.cols();
  ExpectReal("x", d.x);
  ExpectMatrix("x", d.x, d.x.dtype, d.x.rows(), d.heads * d.head_dim);
  ExpectMatrix("cos", d.cos, DType::kF32, d.cos.rows(), pairs);
  ExpectMatrix("sin", d.sin, DType::kF32, d.cos.rows(), pairs);
  JEVONS_CHECK(d.offset >= 0 && d.offset + 2 * pairs <= d.head_dim, "%lld pairs at %lld of a head of %lld",
               static_cast<long long>(pairs), static_cast<long long>(d.offset), static_cast<long long>(d.head_dim));
  JEVONS_CHECK(d.sequence_length > 0 && d.sequence_length <= d.cos.rows(), "sequences of %lld, a table of %lld positions",
               static_cast<long long>(d.sequence_length), static_cast<long long>(d.cos.rows()));
}

}  // namespace

void FillRopeTable(double theta, int64_t dim, const RopeScaling& scaling, const Tensor& cos, const Tensor& sin) {
  JEVONS_CHECK(dim > 0 && dim % 2 == 0 && theta > 1 && scaling.factor >= 1, "dim %lld, theta %g, factor %g",
               static_cast<long long>(dim), theta, scaling.factor);
  ExpectMatrix("cos", cos, DType::kF32, cos.rows(), dim / 2);
  ExpectMatrix("sin", sin, DType::kF32, cos.rows(), dim / 2);
  const auto magnitude = static_cast<float>(scaling.magnitude);
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float frequency = Frequency(i, theta, dim, scaling);
    for (int64_t p = 0; p < cos.rows(); ++p) {
      const double angle = static_cast<float>(p) * frequency;  // rounded to FP32 first
      cos.row<float>(p)[i] = static_cast<float>(std::cos(angle)) * magnitude;
      sin.row<float>(p)[i] = static_cast<float>(std::sin(angle)) * magnitude;
    }
  }
}

void Rope(const OpContext& ctx, const RopeDesc& desc) {
  Check(desc);
  if (desc.x.size() > 0) Ops(ctx.stream).rope(ctx, desc);
}

void RopeBackward(const OpContext& ctx, const RopeDesc& desc) {
  Check(desc);
  if (desc.x.size() > 0) Ops(ctx.stream).rope_backward(ctx, desc);
}

}  // namespace jevons
