// The parameters of one rank: what a layer computes with. Of those that its stages hold dense parameters whole, of the stacked experts
// this rank's share.
// In FP32 these are the masters too; in BF16 the GEMM weights and the embedding are copies of FP32 masters that the
// optimizer holds in slices (trainer/optim/zero1.h). Gate biases are FP32 state beside them.
// Of a weight whose products all read codes (kernels/ops/fp8_weight.h) there need be no copy: then new values pass by, to be quantised.
#ifndef JEVONS_TRAINER_MODEL_WEIGHTS_H_
#define JEVONS_TRAINER_MODEL_WEIGHTS_H_

#include <functional>
#include <span>
#include <vector>

#include "kernels/base/partition.h"
#include "kernels/ops/context.h"
#include "trainer/spec/params.h"

namespace jevons {

// Whether a rank holds what computes at this place in the order of execution (ParamSpec::layer). Empty: everything.
using HeldLayers = std::function<bool(int layer)>;

// Whether a parameter is only passing.
using PassingParams = std::function<bool(const ParamSpec& spec)>;

// New values of one that is: gone when the reader is done.
struct PassingWeight {
  size_t param;
  int64_t local_expert;  // -1: of all that the rank holds
  Tensor value;          // of the compute type
};
using TakeWeights = std::function<void(const OpContext& ops, std::span<const PassingWeight> weights)>;

class WeightStore {
 public:
  // experts: the routed experts that live on this rank. The values lie where the stream works; biases are zero.
  WeightStore(const ModelConfig& model, Range experts, DType compute, const Stream& stream = {}, const HeldLayers& held = {},
              const PassingParams& passing = {});

  const std::vector<ParamSpec>& specs() const { return specs_; }
  Range experts() const { return experts_; }
  DType compute() const { return compute_; }
  const HeldLayers& held() const { return held_; }
  Device device() const { return arena_.device(); }
  Device backend() const { return backend_; }  // whose products read them: Stream::backend
  bool holds(size_t param) const { return !held_ || held_(specs_[param].layer); }
  bool passing(size_t param) const { return passing_ && passing_(specs_[param]); }
  const Tensor& value(size_t param) const { return values_[param]; }  // empty where not held; without data where passing
  const std::vector<std::string>& bias_names() const { return bias_names_; }
  const Tensor& bias(size_t i) const { return biases_[i]; }  // [E] FP32; empty where not held
  int64_t bytes() const { return arena_.used_bytes(); }

 private:
  static int64_t BytesOf(const ModelConfig& model, int64_t local_experts, DType compute, const HeldLayers& held,
                         const PassingParams& passing);
  static Shape LocalShape(const ParamSpec& spec, int64_t local_experts);
  std::vector<ParamSpec> specs_;
  std::vector<std::string> bias_names_;
  Range experts_;
  DType compute_;
  Device backend_;
  HeldLayers held_;
  PassingParams passing_;
  Arena arena_;
  std::vector<Tensor> values_, biases_;
};

// The initial value of elements [begin, begin + dst.size()) of a parameter, FP32: a function of (seed, place in the table,
// element) alone. dst: contiguous.
void InitialValues(const OpContext& ops, const ParamSpec& spec, size_t param, double init_std, uint64_t seed, int64_t begin,
                   const Tensor& dst);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_WEIGHTS_H_
