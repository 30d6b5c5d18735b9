#include "trainer/model/gradients.h"

#include <algorithm>
#include <cmath>

#include "kernels/tensor/device.h"

namespace jevons {
namespace {

constexpr int kMeanGradientBits = 50;
constexpr double kRange = 0x1p62;  // of a sum, in units: half of what 64 bits hold

DType TypeOf(SumType sums) { return sums == EXACT ? DType::kI64 : DType::kF32; }

int64_t BytesOf(const WeightStore& weights, SumType sums) {
  int64_t bytes = 0, flags = 0;
  for (size_t p = 0; p < weights.specs().size(); ++p) {
    if (!weights.holds(p)) continue;
    bytes += Arena::SliceBytes(TypeOf(sums), weights.value(p).shape);
    flags += weights.specs()[p].expert ? weights.experts().size() : 1;
  }
  return bytes + Arena::SliceBytes(DType::kI64, {flags});
}

}  // namespace

FixedPoint StepFixedPoint(double scale, int64_t contributions) {
  return {.shift = kMeanGradientBits - std::ilogb(scale),
          .limit = kRange / static_cast<double>(std::max<int64_t>(1, contributions))};
}

GradientStore::GradientStore(const WeightStore& weights, SumType sums, Device device)
    : weights_(weights),
      sums_(sums),
      arena_("gradients", std::max<int64_t>(1, BytesOf(weights, sums)), device),
      format_(std::make_unique<FixedPoint>()) {
  int64_t count = 0;
  for (size_t p = 0; p < weights.specs().size(); ++p) {
    first_.push_back(count);
    values_.emplace_back();
    if (!weights.holds(p)) continue;
    count += SumsOf(p);
    values_.back() = arena_.Allocate("gradients", TypeOf(sums), weights.value(p).shape);
  }
  flags_ = arena_.Allocate("gradient flags", DType::kI64, {count});
  started_ = std::make_unique<bool[]>(static_cast<size_t>(count));
}

void GradientStore::Begin(const OpContext& ops, const FixedPoint& format) {
  *format_ = format;
  std::fill_n(started_.get(), flags_.size(), false);
  Zero(ops.stream, flags_);
}

GradientSum GradientStore::At(size_t param, int64_t index, const Shape& shape) const {
  char* data = static_cast<char*>(values_[param].data) + index * shape.size() * SizeOf(values_[param].dtype);
  const int64_t at = first_[param] + index;
  return {.sum = Tensor(data, values_[param].dtype, shape),
          .format = exact() ? format_.get() : nullptr,
          .flag = flags_.as<int64_t>() + at,
          .started = started_.get() + at};
}

GradientSum GradientStore::Dense(size_t param) const { return At(param, 0, values_[param].shape); }

GradientSum GradientStore::Expert(size_t param, int64_t local_expert) const {
  return At(param, local_expert, {values_[param].shape[1], values_[param].shape[2]});
}

Tensor GradientStore::ExpertTotal(size_t param, int64_t local_expert) const {
  const Tensor sum = Expert(param, local_expert).sum;
  return sum.Reshape({sum.size()});
}

void GradientStore::Finish(const OpContext& ops, size_t param) const {
  for (int64_t i = 0; i < SumsOf(param); ++i)
    if (const GradientSum sum = weights_.specs()[param].expert ? Expert(param, i) : Dense(param); !*sum.started)
      Zero(ops.stream, sum.sum);
}

void GradientStore::Finish(const OpContext& ops) const {
  for (size_t p = 0; p < values_.size(); ++p)
    if (values_[p]) Finish(ops, p);
}

}  // namespace jevons
