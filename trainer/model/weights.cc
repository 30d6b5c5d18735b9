#include "trainer/model/weights.h"

#include <algorithm>

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

int64_t WeightStore::BytesOf(const ModelConfig& model, int64_t local_experts, DType compute, const HeldLayers& held,
                             const PassingParams& passing) {
  int64_t bytes = 0;
  for (const ParamSpec& spec : ParameterTable(model))
    if ((!held || held(spec.layer)) && !(passing && passing(spec)))
      bytes += Arena::SliceBytes(StoredType(spec, compute), LocalShape(spec, local_experts));
  for (size_t i = 0; i < GateBiasNames(model).size(); ++i)
    if (!held || held(GateBiasLayer(model, i))) bytes += Arena::SliceBytes(DType::kF32, {model.moe().routed_experts()});
  return bytes;
}

WeightStore::WeightStore(const ModelConfig& model, Range experts, DType compute, const Stream& stream, const HeldLayers& held,
                         const PassingParams& passing)
    : specs_(ParameterTable(model)),
      bias_names_(GateBiasNames(model)),
      experts_(experts),
      compute_(compute),
      backend_(stream.backend()),
      held_(held),
      passing_(passing),
      arena_("weights", std::max<int64_t>(1, BytesOf(model, experts.size(), compute, held, passing)), stream.device) {
  for (size_t p = 0; p < specs_.size(); ++p) {
    values_.emplace_back();
    if (!holds(p)) continue;
    const DType type = StoredType(specs_[p], compute);
    const Shape shape = LocalShape(specs_[p], experts.size());
    values_.back() = this->passing(p) ? Tensor(nullptr, type, shape) : arena_.Allocate("weight", type, shape);
  }
  for (size_t i = 0; i < bias_names_.size(); ++i) {
    biases_.emplace_back();
    if (held && !held(GateBiasLayer(model, i))) continue;
    biases_.back() = arena_.Allocate("gate bias", DType::kF32, {model.moe().routed_experts()});
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
