// Where a rank sums its gradients over the micro-batches of a step (trainer/DESIGN.md, contract 8): one sum for each parameter, of which
// it holds of the stacked experts this rank's share.
//   EXACT  64-bit integers in fixed point, exact: the sum does not depend on who adds what, when, or in which order.
//   CHAIN  FP32, in the order in which the rank makes the contributions: half the memory, and an expert's rows of all sources
//          make one contribution; equal from run to run on one layout.
#ifndef JEVONS_TRAINER_MODEL_GRADIENTS_H_
#define JEVONS_TRAINER_MODEL_GRADIENTS_H_

#include <memory>
#include <vector>

#include "configs/run.pb.h"
#include "trainer/model/context.h"
#include "trainer/model/weights.h"

namespace jevons {

// How a step whose loss is taken times `scale`, a power of two, sums exactly. A unit is 2^-50 of the mean gradient: an element may
// reach 2^12, and still has 17 bits at 1e-10. Each of a sum's contributions, at most `contributions` over all ranks, may take
// its part of the range.
FixedPoint StepFixedPoint(double scale, int64_t contributions);

class GradientStore {
 public:
  GradientStore(const WeightStore& weights, SumType sums, Device device = Device::kCpu);

  // A step begins: all sums are zero.
  void Begin(const OpContext& ops, const FixedPoint& format);
  // Where to contribute, as long as the store lives.
  GradientSum Dense(size_t param) const;
  GradientSum Expert(size_t param, int64_t local_expert) const;
  // After the last contribution, to one parameter or to all: what has got none is zero.
  void Finish(const OpContext& ops, size_t param) const;
  void Finish(const OpContext& ops) const;

  // The sums, which a reduction over the ranks may change in place: flat, I64 or FP32.
  Tensor Whole(size_t param) const { return values_[param].Reshape({values_[param].size()}); }
  Tensor ExpertTotal(size_t param, int64_t local_expert) const;
  double unit() const { return exact() ? format_->unit() : 1; }  // what 1 of a sum is worth

  // [sums of this rank] I64, where the stream works: 1 where a contribution could not be summed. In the order of the table, of the
  // parameters that are held, an expert parameter's local experts next to each other.
  const Tensor& flags() const { return flags_; }

  bool exact() const { return sums_ == EXACT; }
  int64_t bytes() const { return arena_.used_bytes(); }

 private:
  GradientSum At(size_t param, int64_t index, const Shape& shape) const;
  int64_t SumsOf(size_t param) const { return weights_.specs()[param].expert ? weights_.experts().size() : 1; }
  const WeightStore& weights_;
  SumType sums_;
  Arena arena_;
  std::vector<Tensor> values_;  // [params] of the weights' shapes; empty where not held
  std::vector<int64_t> first_;  // [params] index of its first sum among all
  Tensor flags_;
  std::unique_ptr<bool[]> started_;  // [sums]
  std::unique_ptr<FixedPoint> format_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_GRADIENTS_H_
