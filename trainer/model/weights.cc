#include "trainer/model/weights.h"

#include "kernels/ops/elementwise.h"
#include "kernels/tensor/device.h"

namespace jevons {
namespace {

DType StoredType(const ParamSpec& spec, DType compute) { return spec.low_precision ? compute : DType::kF32; }

}  // namespace

Shape WeightStore::LocalShape(const ParamSpec& spec, int64_t local_experts) {
  Shape shape = spec.shape;
  if (spec.expert) shape.dims[0] = local_experts;
  return shape;
}

int64_t WeightStore::PlanBytes(const ModelConfig& model, int64_t local_experts, DType compute) {
  int64_t bytes = 0;
  for (const ParamSpec& spec : ParameterTable(model))
    bytes += Arena::SliceBytes(StoredType(spec, compute), LocalShape(spec, local_experts));
  const auto biases = static_cast<int64_t>(GateBiasNames(model).size());
  return bytes + biases * Arena::SliceBytes(DType::kF32, {model.moe().routed_experts()});
}

WeightStore::WeightStore(const ModelConfig& model, Range experts, DType compute, const Stream& stream)
    : specs_(ParameterTable(model)),
      bias_names_(GateBiasNames(model)),
      experts_(experts),
      compute_(compute),
      arena_("weights", PlanBytes(model, experts.size(), compute), stream.device) {
  for (const ParamSpec& spec : specs_)
    values_.push_back(
        arena_.Allocate("weight", StoredType(spec, compute), LocalShape(spec, experts.size())));
  for (size_t i = 0; i < bias_names_.size(); ++i) {
    biases_.push_back(arena_.Allocate("gate bias", DType::kF32, {model.moe().routed_experts()}));
    Zero(stream, biases_.back());
  }
}

void InitialValues(const OpContext& ops, const ParamSpec& spec, size_t param, double init_std, uint64_t seed, int64_t begin,
                   const Tensor& dst) {
  if (spec.init == ParamSpec::Init::kOnes)
    Fill(ops, 1.0f, dst);
  else
    FillNormal(ops, seed, param, begin, static_cast<float>(init_std), dst);
}

}  // namespace jevons
